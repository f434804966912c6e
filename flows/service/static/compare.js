// Reels side by side: played together, from the same moment.

const players = [...document.querySelectorAll("video, audio")], bar = document.querySelector("[data-together]");

if (bar) {
  const play = bar.querySelector("[data-play]"), mute = bar.querySelector("[data-mute]");
  const quiet = () => players.slice(1).forEach(player => { player.muted = mute.checked; });
  const words = () => { play.textContent = players.some(player => !player.paused) ? "Pause" : "Play together"; };
  bar.hidden = false;
  quiet();
  mute.addEventListener("change", quiet);
  play.addEventListener("click", () => (players.some(player => !player.paused) ? pause() : together(players[0].currentTime)));
  bar.querySelector("[data-again]").addEventListener("click", () => together(0));
  for (const player of players) for (const name of ["play", "pause", "ended"]) player.addEventListener(name, words);
}

function pause() {
  for (const player of players) player.pause();
}

async function together(moment) {
  pause();
  const ended = players[0].ended ? 0 : moment;
  await Promise.all(players.map(player => at(player, Math.min(ended, player.duration || ended))));
  await Promise.all(players.map(player => player.play()));
}

/** Wait until a player shows this moment, so that none begins before the others can. */
function at(player, moment) {
  if (Math.abs(player.currentTime - moment) < 0.02 && player.readyState >= 3) return null;
  return new Promise(done => {
    const ready = () => { if (player.readyState >= 3 && !player.seeking) { clean(); done(); } };
    const events = ["seeked", "canplay", "error"];
    const clean = () => events.forEach(name => player.removeEventListener(name, ready));
    events.forEach(name => player.addEventListener(name, ready));
    player.addEventListener("error", done, { once: true });
    player.preload = "auto";
    player.currentTime = moment;
    ready();
  });
}
