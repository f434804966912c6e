// The form of an endpoint: fill in, see the plan, send. It speaks to the same routes as every other client.

import { addItem, bodyOf, clearFaults, count, put, showFaults, unmark } from "./fields.js";
import { amount, showPlan } from "./plan.js";
import { ask } from "./send.js";
import { prepare } from "./uploads.js";

const form = document.querySelector("[data-train]"), plan = document.querySelector("[data-plan-shown]");
const working = form.querySelector("[data-working]"), askButton = form.querySelector("[data-ask]");
const start = plan.querySelector("[data-start]"), sending = plan.querySelector("[data-sending-run]");
let planned = null;  // the body that the plan is of, and the key under which it is sent once, however often it is tried

prepare(form);
for (const list of form.querySelectorAll("[data-kind='list']")) {
  count(list);
  list.querySelector(":scope > [data-add]").addEventListener("click", () => {
    const item = addItem(list);
    prepare(item);
    changed();
    item.querySelector("input, textarea, select").focus();
  });
  list.addEventListener("click", event => {
    const remove = event.target.closest("[data-remove]");
    if (!remove) return;
    for (const field of remove.closest("[data-item]").querySelectorAll("[data-field]")) field.stop?.();
    remove.closest("[data-item]").remove();
    count(list);
    changed();
    list.querySelector(":scope > [data-add]").focus();
  });
}

form.addEventListener("input", event => {
  for (let field = event.target.closest("[data-field]"); field; field = field.parentElement.closest("[data-field]")) unmark(field);
  changed();
});
form.addEventListener("submit", event => { event.preventDefault(); makePlan(); });
start.addEventListener("click", send);
plan.querySelector("[data-change]").addEventListener("click", () => {
  form.scrollIntoView();
  form.querySelector("input, select, textarea").focus();
});
addEventListener("beforeunload", event => { if (form.querySelector("[data-busy]")) event.preventDefault(); });

function changed() {
  planned = null;
  plan.hidden = true;
}

async function makePlan() {
  clearFaults(form);
  const { body, faults } = bodyOf(form);
  if (faults.length) return showFaults(form, faults);
  changed();
  askButton.disabled = true;
  const began = Date.now(), tell = () => {
    const seconds = Math.round((Date.now() - began) / 1000);
    working.textContent = `Looking at every clip${seconds > 3 ? `, ${seconds} s so far` : ""}...`;
  };
  tell();
  const ticking = setInterval(tell, 5000);
  try {
    const answer = await ask(form.dataset.plan, { method: "POST", body: JSON.stringify(body) });
    if (JSON.stringify(bodyOf(form).body) === JSON.stringify(body)) show(answer, body);
    working.textContent = "";
  } catch (fault) {
    refused(fault);
  } finally {
    clearInterval(ticking);
    askButton.disabled = false;
  }
}

function show(answer, body) {
  planned = { body, key: [...crypto.getRandomValues(new Uint8Array(16))].map(each => each.toString(16)).join("-") };
  showPlan(plan.querySelector("[data-plan-body]"), answer, (name, value) => {
    const field = put(form, name, value);
    changed();
    field.scrollIntoView({ block: "center" });
    makePlan();
  });
  start.textContent = `Train for ${amount(answer.usd)}`;
  sending.textContent = "";
  plan.hidden = false;
  plan.scrollIntoView({ block: "start" });
  plan.querySelector("h2").focus({ preventScroll: true });
}

async function send() {
  if (!planned) return;
  start.disabled = true;
  sending.textContent = "Sending...";
  try {
    const told = await ask(form.dataset.send, {
      method: "POST", body: JSON.stringify(planned.body), headers: { "Idempotency-Key": planned.key } });
    location.assign(`/history/${told.request_id}`);
  } catch (fault) {
    sending.textContent = "";
    refused(fault);
  } finally {
    start.disabled = false;
  }
}

function refused(fault) {
  working.textContent = "";
  plan.hidden = true;
  showFaults(form, fault.details?.length ? fault.details : [{ loc: ["body"], msg: fault.message }]);
}
