// File fields: files that are picked or dropped are uploaded at once, and their address is put into the field.

import { mark, unmark } from "./fields.js";
import { archiveOf, fromDrop, fromInput } from "./picked.js";
import { upload } from "./send.js";

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/** Bring the file fields below an element to life. */
export function prepare(root) {
  for (const field of root.querySelectorAll("[data-kind='archive'], [data-kind='media']")) watch(field);
}

function watch(field) {
  const drop = field.querySelector("[data-drop]"), value = field.querySelector("[data-value]");
  for (const input of field.querySelectorAll("[data-files]")) {
    if (input.hasAttribute("webkitdirectory") && !("webkitdirectory" in input)) input.closest("[data-folder]").hidden = true;
    input.addEventListener("change", () => {
      const picked = fromInput(input);
      input.value = "";  // else the same files could not be picked again
      send(field, picked);
    });
  }
  drop.addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async event => {
    event.preventDefault();
    drop.classList.remove("over");
    send(field, await fromDrop(event.dataTransfer));
  });
  value.addEventListener("input", () => { field.querySelector("[data-sent]").textContent = ""; });
  if (value.value.startsWith("upload://")) said(field, `${decodeURIComponent(value.value.split("/").at(-1))}, uploaded before`);
}

async function send(field, picked) {
  if (!picked.files.length) { unmark(field); mark(field, "No files are in there."); return; }
  field.stop?.();
  const control = new AbortController(), bar = field.querySelector("progress");
  field.stop = () => control.abort();
  field.querySelector("[data-stop]").onclick = field.stop;
  unmark(field);
  said(field, "");
  working(field, true);
  try {
    const { name, content } = await packed(field, picked, control.signal);
    words(field, `Uploading ${name}, ${size(content.size)}`);
    const url = await upload(content, name, {
      signal: control.signal,
      onSent: sent => { bar.value = content.size ? sent / content.size : 1; share(field, sent / content.size); },
    });
    if (control.signal.aborted) return;
    put(field, url, `${name}, ${size(content.size)}, uploaded`);
  } catch (fault) {
    if (!control.signal.aborted) mark(field, fault.message);
  } finally {
    if (field.querySelector("[data-stop]").onclick === field.stop) working(field, false);
  }
}

/** One file of a sample as it is; training data as one zip. */
async function packed(field, picked, signal) {
  if (field.dataset.kind === "media") return { name: picked.files[0].file.name, content: picked.files[0].file };
  const total = picked.files.reduce((sum, { file }) => sum + file.size, 0), bar = field.querySelector("progress");
  let read = 0;
  words(field, `Packing ${picked.files.length} files, ${size(total)}`);
  return archiveOf(picked, { signal, onRead: bytes => { read += bytes; bar.value = total ? read / total : 1; } });
}

function put(field, url, told) {
  const value = field.querySelector("[data-value]");
  value.value = url;
  value.dispatchEvent(new Event("input", { bubbles: true }));
  said(field, told);
}

function working(field, now) {
  field.querySelector("[data-sending]").hidden = !now;
  if (now) field.dataset.busy = "yes"; else delete field.dataset.busy;
  field.querySelector("progress").value = 0;
}

function words(field, text) {
  field.querySelector("[data-sending-words]").textContent = text;
}

function share(field, part) {
  field.querySelector("progress").setAttribute("aria-valuetext", `${Math.round(100 * part)} %`);
}

function said(field, text) {
  field.querySelector("[data-sent]").textContent = text;
}

function size(bytes) {
  let unit = 0;
  while (bytes >= 1000 && unit < UNITS.length - 1) { bytes /= 1000; unit++; }
  return `${unit ? bytes.toFixed(1) : bytes} ${UNITS[unit]}`;
}
