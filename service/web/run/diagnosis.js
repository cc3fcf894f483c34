/** What the service makes of a run, in words, each with the steps it speaks of. */

import { below, find } from "../api/client.js";
import { h, refill } from "../page/dom.js";
import { steps, value } from "../page/format.js";
import { tell } from "../page/notices.js";

/**
 * Draws the findings and returns the stretches they speak of.
 * @param {HTMLElement} host @param {string} id @param {(from: number, to: number) => void} look shows a stretch of steps @param {AbortSignal} signal
 * @returns {Promise<import("../charts/chart.js").Mark[]>}
 */
export async function drawDiagnosis(host, id, look, signal) {
  const found = await find(below("/v1/runs", id, "diagnosis"), {}, signal).catch(tell);
  if (!found || signal.aborted) {
    host.hidden = true;
    return [];
  }
  host.hidden = false;
  refill(host, h("h2", {}, "Diagnosis: ", h("b", {}, words(found.verdict))), h("ul", { class: "findings" }, found.findings.map((finding) => drawFinding(finding, look))));
  return found.findings.filter(({ from_step: from, code }) => from !== null && from !== undefined && code !== "healthy")
    .map(({ from_step: x, to_step: to, code }) => ({ x, to: to ?? undefined, label: words(code), kind: "finding" }));
}

function drawFinding({ code, severity, from_step: from, to_step: to, evidence, explanation, suggestion }, look) {
  const stretch = from === null || from === undefined ? null
    : h("button", { class: "quiet", click: () => look(from, to ?? from) }, steps(from, to ?? from));
  return h("li", { class: `finding ${severity}` },
    h("p", {}, h("b", {}, words(code)), " ", h("span", { class: "muted" }, severity), " ", stretch),
    h("p", {}, explanation), suggestion ? h("p", { class: "suggestion" }, suggestion) : null,
    Object.keys(evidence ?? {}).length ? h("details", {}, h("summary", { class: "muted" }, "Evidence ▸"), h("p", { class: "muted" }, Object.entries(evidence).map(([name, each]) => `${words(name)} ${value(each)}`).join(" · "))) : null);
}

/** @param {string} code */
function words(code) {
  return code.replaceAll("_", " ");
}
