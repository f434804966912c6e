// Runs that go: their progress, loss and previews every few seconds, less often while nobody looks or nothing answers.

const PAUSE = 3000, LONGEST = 60000;

for (const box of document.querySelectorAll("[data-live]")) follow(box);
for (const box of document.querySelectorAll("[data-stream]")) readLog(box);

async function follow(box) {
  let pause = PAUSE;
  for (;;) {
    if (!document.hidden) {
      try {
        const answer = await fetch(box.dataset.live, { headers: { Accept: "application/json" } });
        if (!answer.ok) throw new Error(String(answer.status));
        const now = await answer.json();
        pause = PAUSE;
        if (!["waiting", "running"].includes(now.standing)) return renew(box);
        show(box, now);
      } catch {
        pause = Math.min(2 * pause, LONGEST);
      }
    }
    await new Promise(done => setTimeout(done, pause));
  }
}

function show(box, now) {
  const badge = box.querySelector("[data-standing]"), word = now.being_cancelled ? "being cancelled" : now.standing;
  if (badge.textContent !== word) { badge.textContent = word; badge.className = `badge ${now.standing}`; }
  const queue = box.querySelector("[data-queue]");
  if (queue) queue.textContent = now.queue_position ? `${now.queue_position} before it` : "";
  const going = box.querySelector("[data-going]");
  going.hidden = now.percent === null;
  if (now.percent !== null) {
    going.querySelector("[data-percent]").value = now.percent;
    going.querySelector("[data-doing]").textContent = now.doing || "Progress";
    going.querySelector("[data-percent-words]").textContent = `${Math.floor(now.percent)} %`;
  }
  const shown = box.querySelectorAll("[data-picture]");
  for (const image of shown) picture(box, image, now.pictures[image.dataset.picture], shown);
}

function picture(box, image, told, all) {
  const key = image.dataset.picture, holder = image.closest("[data-holds]");
  const better = !holder && key === "loss-curve" && [...all].some(each => each !== image && each.getAttribute("src"));
  if (told && image.getAttribute("src") !== told.url) image.src = told.url;
  (holder || image).hidden = !told || better;
  for (const words of box.querySelectorAll(`[data-words="${key}"]`)) words.textContent = key === "loss-curve" && told ? told.words : "";
}

/** Replace a run that has ended by what the service now says of it. */
async function renew(box) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(box.id);
  if (!fresh) return location.reload();
  const within = box.contains(document.activeElement);
  box.replaceWith(document.adoptNode(fresh));
  if (within) fresh.querySelector("h1, h2 a")?.focus();
  document.title = document.title.replace(/^(● )?/, "● ");
}

function readLog(box) {
  const log = box.querySelector("#log"), source = new EventSource(box.dataset.stream);
  source.onopen = () => { log.textContent = ""; };  // each connection tells all lines once
  source.onmessage = event => {
    const now = JSON.parse(event.data), atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.append((now.logs || []).map(line => `${line.timestamp.slice(11, 19)} ${line.level} ${line.message}\n`).join(""));
    if (atEnd) log.scrollTop = log.scrollHeight;
    if (now.status === "COMPLETED") source.close();
  };
}
