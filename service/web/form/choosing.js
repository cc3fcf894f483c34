/** What helps to choose a learning rate and a batch size: what they come to in steps, and studies that find them. */

import { h } from "../page/dom.js";
import { counted, duration, grouped, number } from "../page/format.js";
import { href } from "../page/route.js";

/** @param {any} spec as the form says it, for the studies to begin with @param {any} plan null while there is none */
export function choosing(spec, plan) {
  const { name: _, ...base } = spec;
  const study = (kind) => href("studies", { kind, base: base.task && base.dataset ? JSON.stringify(base) : null });
  return [
    h("p", {}, "A learning rate between 0.001 and 0.01 is the usual start. A study finds one for this data and model: ",
      h("a", { href: study("lr_range") }, "try a range of learning rates"), ", or ", h("a", { href: study("batch_size") }, "compare batch sizes"), "."),
    plan ? h("p", { class: "sum" }, sum(plan)) : null,
  ];
}

/** How samples, batches, steps and epochs go together. @param {any} plan */
function sum({ train_samples: samples, batch_size: batch, steps_per_epoch: steps, last_batch_samples: last, epochs, total_steps: all, total_samples: seen, micro_batches_per_step: parts, estimated_seconds: seconds }) {
  const over = samples - steps * batch; // more than 0 where smaller batches are dropped
  const rest = over > 0 ? `, ${counted(over, "sample")} left out` : last < batch ? `, the last of ${counted(last, "sample")}` : "";
  return [`${counted(samples, "sample")} in batches of ${grouped(batch)}${parts > 1 ? `, each in ${parts} parts` : ""}: ${counted(steps, "step")} an epoch${rest}. `,
    `${number(epochs)} ${epochs === 1 ? "epoch" : "epochs"}: `, h("b", {}, counted(all, "step")), `, as many updates of the weights, from ${counted(seen, "sample")} in all${seconds === null ? "" : `, in about ${duration(seconds)}`}.`];
}
