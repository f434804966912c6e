// Reels of a long list show their first frame as soon as they are looked at, and not before.

const seen = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    target.preload = "metadata";
    target.load();
    seen.unobserve(target);
  }
}, { rootMargin: "400px" });
for (const player of document.querySelectorAll("[data-lazy]")) seen.observe(player);
