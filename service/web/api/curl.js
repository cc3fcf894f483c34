/** What a view shows, as commands for a terminal. The token stands in a variable: a command is easily passed on. */

import { h } from "../page/dom.js";
import { notice, sheet, tell } from "../page/notices.js";
import { address } from "./client.js";

/** @typedef {{ path: string, query?: Record<string, any>, method?: string, body?: any, file?: string, type?: string }} Call */

/** @param {Call} call */
export function command({ path, query, method = "GET", body, file, type = "application/json" }) {
  const words = ["curl"];
  if (method !== "GET") words.push("-X", method);
  words.push("-H", '"Authorization: Bearer $TRAINBOX_TOKEN"');
  if (body !== undefined || file) words.push("-H", quoted(`Content-Type: ${type}`));
  if (body !== undefined) words.push("-d", quoted(JSON.stringify(body)));
  if (file) words.push("--data-binary", quoted(`@${file}`));
  words.push(quoted(location.origin + address(path, query)));
  return words.join(" ");
}

/** For a POSIX shell: nothing expands between single quotes. @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A button that copies the calls of a view as they are at that moment. @param {() => Call[]} calls */
export function button(calls) {
  const click = () => {
    try {
      copy(calls().map(command).join("\n"));
    } catch (error) {
      tell(error); // what is typed may be no request yet
    }
  };
  return h("button", { type: "button", class: "quiet", title: "Copies what this view asks the API, as curl commands", click }, "Copy as curl");
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notice("Copied. Set TRAINBOX_TOKEN before you run it.");
  } catch {
    sheet("As curl", h("pre", { tabindex: "0" }, text)); // no clipboard over plain http from another machine
  }
}
