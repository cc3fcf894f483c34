/** Streams, read with fetch: an EventSource cannot send the header that carries the token. */

import { ask } from "./client.js";
import { pause } from "../page/polling.js";

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;

/** @typedef {{ id: string, event: string, data: any }} Message */

/**
 * Hands over the messages of an event stream until its last, and goes on behind the last one whenever the connection breaks.
 * A stream is held only while the page can be seen: a browser opens six connections to one service, over all its tabs.
 * @param {string} path @param {(message: Message) => void} take @param {AbortSignal} signal
 */
export async function follow(path, take, signal) {
  let last = "";
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    await visible(signal);
    const held = new AbortController();
    const leave = () => (signal.aborted || document.hidden) && held.abort();
    document.addEventListener("visibilitychange", leave);
    signal.addEventListener("abort", leave);
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      for await (const message of messages(await ask(path, { headers, signal: held.signal }))) {
        wait = FIRST_WAIT;
        last = message.id || last;
        take(message);
        if (message.event === "end") return;
      }
    } catch (error) {
      if (signal.aborted || [401, 403, 404, 422].includes(error.status)) return;
    } finally {
      document.removeEventListener("visibilitychange", leave);
      signal.removeEventListener("abort", leave);
    }
    await pause(document.hidden ? 0 : wait, signal);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }
}

/** @param {AbortSignal} signal */
async function visible(signal) {
  while (document.hidden && !signal.aborted) await pause(500, signal);
}

/** The messages of an answer (html.spec.whatwg.org, 9.2.6). @param {Response} answer @returns {AsyncGenerator<Message>} */
async function* messages(answer) {
  let fields = { id: "", event: "message", data: "" };
  for await (const line of lines(answer)) {
    if (line === "") {
      if (fields.data) yield { ...fields, data: JSON.parse(fields.data) };
      fields = { id: "", event: "message", data: "" };
      continue;
    }
    const colon = line.indexOf(":");
    const name = line.slice(0, colon);
    if (name in fields) fields[name] = name === "data" ? fields.data + line.slice(colon + 1).trimStart() : line.slice(colon + 1).trimStart();
  }
}

/** @param {Response} answer @returns {AsyncGenerator<string>} */
async function* lines(answer) {
  let rest = "";
  for await (const part of texts(answer)) {
    const whole = (rest + part).split("\n");
    rest = whole.pop() ?? "";
    yield* whole;
  }
}

/** The body of an answer as it comes. @param {Response} answer @returns {AsyncGenerator<string>} */
export async function* texts(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
