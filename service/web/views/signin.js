/** The way in: a token, pasted. */

import { Problem } from "../api/client.js";
import * as session from "../api/session.js";
import { h, refill } from "../page/dom.js";

/** @param {HTMLElement} root @param {() => Promise<void>} enter raises Problem when the token is not valid @param {string} [why] one has to */
export function signIn(root, enter, why = "") {
  const field = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "token-told" });
  const longer = h("input", { type: "checkbox" });
  const told = h("p", { class: "bad", role: "alert" }, why);
  const submit = async (event) => {
    event.preventDefault();
    session.keep(field.value.trim(), longer.checked);
    try {
      await enter();
    } catch (error) {
      session.forget();
      refill(told, error instanceof Problem && error.status === 401 ? "This token is not valid." : error.message);
      field.focus();
    }
  };
  refill(root, h("form", { class: "signin panel", submit },
    h("h1", {}, "Sign in"),
    h("label", { for: "token" }, "Token"), field,
    h("p", { class: "muted", id: "token-told" }, "The first one was written to admin.token in the service's home, usually ", h("code", {}, "~/.local/share/trainbox"), ". It is kept for this tab alone, and never stands in an address."),
    h("label", { class: "check" }, longer, " stay signed in on this computer"),
    told,
    h("button", { class: "primary" }, "Sign in")));
  field.focus();
}
