// The plan of a request in words: what would be trained on, what not and why, what it costs.

const SHOWN = 200;

/** Fill a box with a plan; `use`: called with a parameter and its value when a suggestion is taken. */
export function showPlan(box, plan, use) {
  box.replaceChildren(sums(plan));
  if (plan.bucket) box.append(element("p", bucketWords(plan.bucket)));
  const suggestions = plan.wins || plan.suggestions || [];
  part(box, "Warnings", plan.warnings, warning => element("li", words(warning)));
  part(box, "Skipped", plan.skipped, each => element("li", `${each.name}: ${each.reason}`));
  part(box, "What would keep more", suggestions, each => suggestion(each, use));
  const samples = plan.samples || [];
  if (samples.length) {
    const kept = element("details"), list = element("ul");
    kept.append(element("summary", `The ${samples.length} samples and their captions`), list);
    for (const sample of samples.slice(0, SHOWN)) list.append(element("li", `${sample.name}: ${sample.caption || "no caption"}`));
    if (samples.length > SHOWN) list.append(element("li", `and ${samples.length - SHOWN} more`));
    box.append(kept);
  }
}

/** An amount of money, with cents unless it is finer. */
export function amount(usd) {
  const [whole, cents = ""] = String(usd).split(".");
  return `${whole}.${cents.padEnd(2, "0")} USD`;
}

function sums(plan) {
  const list = element("dl");
  list.className = "sums";
  const facts = [
    ["Price", amount(plan.usd), `${plan.billable_units} steps`],
    ["Trained on", String(plan.kept), plan.kept === 1 ? "sample" : "samples"],
    ["Skipped", String(plan.skipped.length), plan.skipped.length === 1 ? "sample" : "samples"],
  ];
  for (const [name, value, unit] of facts) {
    const fact = element("div"), told = element("dd", `${value} `), small = element("span", unit);
    small.className = "muted";
    told.append(small);
    fact.append(element("dt", name), told);
    list.append(fact);
  }
  return list;
}

function bucketWords({ picture, seconds }) {
  const length = `${Number(seconds.toFixed(2))} s`;
  if (!picture) return `Every sample is brought to ${length} of sound.`;
  const { width, height, frames, fps } = picture;
  return `Every sample is brought to ${width} x ${height}, ${frames} frames (${length} at ${Number(fps.toFixed(3))} frames a second).`;
}

function suggestion(each, use) {
  const value = typeof each.value === "boolean" ? (each.value ? "on" : "off") : each.value;
  const item = element("li", `${each.parameter.replaceAll("_", " ")} ${value} keeps ${each.keeps} of ${each.of}`);
  const button = element("button", "Use this");
  button.type = "button";
  button.addEventListener("click", () => use(each.parameter, each.value));
  item.append(button);
  return item;
}

function part(box, title, all, line) {
  if (!all?.length) return;
  const list = element("ul");
  list.append(...all.slice(0, SHOWN).map(line));
  if (all.length > SHOWN) list.append(element("li", `and ${all.length - SHOWN} more`));
  box.append(element("h3", title), list);
}

const words = told => (typeof told === "string" ? told : told.message || told.reason || JSON.stringify(told));

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
