// Fields of a form: their values as a request's body, and faults shown where they are.

/** The body of a request, and faults that only the browser knows of. */
export function bodyOf(form) {
  const faults = [];
  return { body: read(form, ["body"], faults), faults };
}

/** Show faults at their fields, all of them above the form, and go to the first. */
export function showFaults(form, details) {
  clearFaults(form);
  const shown = details.map(({ loc, msg }) => ({ field: fieldAt(form, loc.slice(1)), msg }));
  for (const { field, msg } of shown.filter(each => each.field)) mark(field, msg);
  const alert = form.querySelector("[data-alert]"), list = document.createElement("ul");
  const heading = document.createElement("strong");
  heading.textContent = shown.length === 1 ? "One thing to mend:" : `${shown.length} things to mend:`;
  for (const { field, msg } of shown) list.append(line(field, msg));
  alert.replaceChildren(heading, list);
  const first = [...form.querySelectorAll("[data-field].wrong")].map(controlOf).find(Boolean);
  if (first) goTo(first);
  else { alert.tabIndex = -1; alert.focus(); }
}

export function clearFaults(form) {
  for (const field of form.querySelectorAll("[data-field].wrong")) unmark(field);
  form.querySelector("[data-alert]").replaceChildren();
}

/** Remove a field's fault: it has been changed. */
export function unmark(field) {
  field.classList.remove("wrong");
  const fault = faultOf(field);
  fault.hidden = true;
  fault.textContent = "";
  for (const control of marked(field)) control.removeAttribute("aria-invalid");
}

/** Show one fault at a field. */
export function mark(field, msg) {
  field.classList.add("wrong");
  const fault = faultOf(field);
  fault.textContent += (fault.textContent ? "\n" : "") + msg;
  fault.hidden = false;
  for (const control of marked(field)) control.setAttribute("aria-invalid", "true");
}

/** Add an item to a list. */
export function addItem(field) {
  const template = field.querySelector("[data-new]"), made = template.content.cloneNode(true);
  const old = `__${field.dataset.field}__`, fresh = `f-${field.dataset.field}-n${(addItem.made = (addItem.made || 0) + 1)}`;
  for (const element of made.querySelectorAll("*")) {
    for (const { name, value } of [...element.attributes]) {
      if (value.includes(old)) element.setAttribute(name, value.replaceAll(old, fresh));
    }
  }
  field.querySelector("[data-items]").append(made);
  count(field);
  return itemsOf(field).at(-1);
}

/** Number a list's items, and allow no more than there may be. */
export function count(field) {
  const items = itemsOf(field), most = Number(field.querySelector("[data-items]").dataset.most || Infinity);
  items.forEach((item, index) => { item.querySelector("[data-number]").textContent = `${titleOf(field)}: ${index + 1}`; });
  field.querySelector(":scope > [data-add]").disabled = items.length >= most;
}

/** Put a value into a field, as a suggestion wants it. */
export function put(form, name, value) {
  const field = fieldAt(form, [name]);
  for (const control of field.querySelectorAll("[data-value]")) {
    if (control.type === "radio") control.checked = control.value === JSON.stringify(value);
    else if (control.type === "checkbox") control.checked = value;
    else control.value = control.tagName === "SELECT" ? JSON.stringify(value) : String(value);
  }
  return field;
}

export const titleOf = field => field.querySelector("label, legend, h3").firstChild.textContent.trim();
export const itemsOf = field => [...field.querySelectorAll("[data-item]")].filter(item => owner(item) === field);

const owner = element => element.parentElement.closest("[data-field], [data-item], form");
const fieldsOf = box => [...box.querySelectorAll("[data-field]")].filter(field => owner(field) === box);
const faultOf = field => field.querySelector(":scope > .fault");

function read(box, loc, faults) {
  const values = {};
  for (const field of fieldsOf(box)) {
    const value = valueOf(field, [...loc, field.dataset.field], faults);
    if (value !== undefined) values[field.dataset.field] = value;
  }
  return values;
}

function valueOf(field, loc, faults) {
  const { kind } = field.dataset;
  if (kind === "list") return itemsOf(field).map((item, index) => read(item, [...loc, index], faults));
  if (kind === "box") return read(field, loc, faults);
  if (field.dataset.busy) faults.push({ loc, msg: "is still being uploaded; wait, or stop it" });
  const control = field.querySelector("[data-value]:checked") || field.querySelector("[data-value]");
  if (kind === "switch") return control.checked;
  if (kind === "choice") return control.value === "" ? undefined : JSON.parse(control.value);
  if (kind === "number") return numberOf(control, field, loc, faults);
  const text = kind === "archive" || kind === "media" ? control.value.trim() : control.value;
  if (text === "") return "clears" in field.dataset ? "" : undefined;
  if (kind !== "json") return text;
  try { return JSON.parse(text); } catch { faults.push({ loc, msg: "is not JSON" }); return undefined; }
}

function numberOf(control, field, loc, faults) {
  if (control.value !== "") return Number(control.value);
  if (control.validity.badInput || !("nullable" in field.dataset)) faults.push({ loc, msg: "give a number" });
  return undefined;
}

function fieldAt(form, path) {
  let found = null, box = form;
  for (const part of path) {
    if (typeof part === "number") {
      const item = found && itemsOf(found)[part];
      if (!item) break;
      box = item;
    } else {
      const field = fieldsOf(box).find(each => each.dataset.field === part);
      if (!field) break;
      found = box = field;
    }
  }
  return found;
}

function marked(field) {
  const group = field.querySelector(":scope > [role='radiogroup']");
  return group ? [group] : [...field.querySelectorAll("[data-value], [data-files]")].filter(each => owner(each) === field);
}

function controlOf(field) {
  return field.querySelector("[data-files]") || field.querySelector("[data-value]:checked, [data-value]")
    || field.querySelector("[data-add]");
}

function line(field, msg) {
  const item = document.createElement("li"), control = field && controlOf(field);
  if (!control) { item.textContent = msg; return item; }
  const link = document.createElement("a");
  link.href = `#${control.id || field.querySelector("[id]").id}`;
  link.textContent = titleOf(field);
  link.addEventListener("click", event => { event.preventDefault(); goTo(control); });
  item.append(link, `: ${msg}`);
  return item;
}

function goTo(control) {
  for (let box = control.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  control.focus();
}
