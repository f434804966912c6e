// Files that a person picks or drops: without what systems leave in folders, as one archive or as they are.

import { zipped } from "./zip.js";

const LEFT_BEHIND = ["__MACOSX", "Thumbs.db", "desktop.ini"];

/** Files of an <input type="file">, each with its path below the folder that was picked. */
export function fromInput(input) {
  const files = [...input.files].map(file => ({ path: file.webkitRelativePath || file.name, file }));
  return input.webkitdirectory ? within(files) : { name: "clips", files: useful(files) };
}

/** Files that were dropped, folders with all that is in them. */
export async function fromDrop(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = (await Promise.all(entries.map(entry => walk(entry, "")))).flat();
  return entries.length === 1 && entries[0].isDirectory ? within(files) : { name: "clips", files: useful(files) };
}

/** What to upload as training data: a zip as it is, all else as one archive. */
export async function archiveOf({ name, files }, how) {
  if (files.length === 1 && /\.zip$/i.test(files[0].path)) return { name: files[0].file.name, content: files[0].file };
  return { name: `${name}.zip`, content: await zipped(files, how) };
}

function within(files) {
  const name = files[0]?.path.split("/")[0] || "clips";
  return { name, files: useful(files.map(({ path, file }) => ({ path: path.slice(path.indexOf("/") + 1), file }))) };
}

function useful(files) {
  return files.filter(({ path }) => path.split("/").every(part => !part.startsWith(".") && !LEFT_BEHIND.includes(part)));
}

async function walk(entry, folder) {
  const path = folder + entry.name;
  if (entry.isFile) return [{ path, file: await new Promise((done, failed) => entry.file(done, failed)) }];
  const reader = entry.createReader(), found = [];
  for (;;) {  // a folder is read in pieces, the last one is empty
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const inner of some) found.push(...await walk(inner, `${path}/`));
  }
}
