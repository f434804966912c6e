// Uploads: small files at once, large ones in parts, each part again where the line breaks.

const PART = 32 * 2 ** 20, PAUSES = [1000, 4000, 15000];

/** A fault in words for people; `details`: faults of a request's fields, if it has any. */
export class Refused extends Error {
  constructor(message, code, details = []) {
    super(message);
    Object.assign(this, { code, details });
  }
}

/** Upload a file; what to write into a request. */
export async function upload(content, name, { onSent = () => {}, signal } = {}) {
  if (content.size <= PART) {
    const answer = await put(`/uploads/${encodeURIComponent(name)}`, content, onSent, signal);
    return answer.url;
  }
  const plain = name.replace(/[^\x20-\x7e]/g, "_");
  const { access_url: url, uploadId: id } = await ask("/files/upload/multipart", {
    method: "POST", headers: { "X-Fal-File-Name": plain }, signal });
  const below = `${new URL(url).pathname}/multipart/${id}`, parts = [];
  for (let at = 0; at < content.size; at += PART) {
    const part = content.slice(at, at + PART);
    const { partNumber, etag } = await put(`${below}/${parts.length + 1}`, part, sent => onSent(at + sent), signal);
    parts.push({ partNumber, etag });
  }
  await ask(`${below}/complete`, { method: "POST", body: JSON.stringify({ parts }), signal });
  return url;
}

/** Ask the service for JSON. */
export async function ask(path, { headers = {}, ...options } = {}) {
  const json = options.body ? { "Content-Type": "application/json" } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { Accept: "application/json", ...json, ...headers } });
  } catch (fault) {
    if (options.signal?.aborted) throw fault;
    throw new Refused("The service does not answer. Check the connection and try again.", 0);
  }
  return told(answer.status, await answer.text());
}

async function put(path, content, onSent, signal) {
  for (const pause of [...PAUSES, null]) {
    try {
      return await putOnce(path, content, onSent, signal);
    } catch (fault) {
      const passes = fault instanceof Refused && (fault.code === 0 || fault.code >= 500);
      if (pause === null || !passes) throw fault;
      await new Promise(done => setTimeout(done, pause));
    }
  }
}

function putOnce(path, content, onSent, signal) {  // fetch does not tell how much has been sent
  return new Promise((done, failed) => {
    if (signal?.aborted) return failed(signal.reason);
    const request = new XMLHttpRequest();
    signal?.addEventListener("abort", () => { request.abort(); failed(signal.reason); }, { once: true });
    request.upload.onprogress = event => onSent(event.loaded);
    request.onerror = () => failed(new Refused("The upload broke off, or the file cannot be read any more.", 0));
    request.onload = () => {
      try { done(told(request.status, request.responseText)); } catch (fault) { failed(fault); }
    };
    request.open("PUT", path);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(content);
  });
}

function told(code, text) {
  let answer = null;
  try { answer = JSON.parse(text); } catch { /* a proxy's page, told by its code below */ }
  if (code >= 200 && code < 300 && answer) return answer;
  if (code === 401) throw new Refused("You are signed out. Sign in again in another tab, then go on here.", code);
  const detail = answer?.detail;
  if (Array.isArray(detail)) throw new Refused(detail.map(each => each.msg).join("; "), code, detail);
  throw new Refused(detail || `The service answered ${code}.`, code);
}
