/** The page: signs in, and shows the view that the address names. It knows no more than the public API. */

import { get } from "./api/client.js";
import * as session from "./api/session.js";
import { h, refill } from "./page/dom.js";
import * as keys from "./page/keys.js";
import { here, href } from "./page/route.js";
import * as theme from "./page/theme.js";
import { signIn } from "./views/signin.js";

/** @typedef {(root: HTMLElement, route: import("./page/route.js").Route, signal: AbortSignal) => any} View */

/** @type {Record<string, { title: string, load: () => Promise<{ show: View }> }>} */
const VIEWS = {
  box: { title: "Box", load: () => import("./views/box.js") },
  runs: { title: "Runs", load: () => import("./views/runs.js") },
  run: { title: "Run", load: () => import("./views/run.js") },
  compare: { title: "Compare", load: () => import("./views/compare.js") },
  studies: { title: "Studies", load: () => import("./views/studies.js") },
  study: { title: "Study", load: () => import("./views/study.js") },
  datasets: { title: "Data", load: () => import("./views/datasets.js") },
  submit: { title: "Submit", load: () => import("./views/submit.js") },
};
const MENU = ["box", "runs", "studies", "datasets", "submit"];
const UNDER = { run: "runs", compare: "runs", study: "studies" };

const [top, main] = [document.getElementById("top"), document.getElementById("main")];
let leaving = new AbortController();

async function start() {
  theme.start();
  keys.start();
  addEventListener("hashchange", () => {
    main.focus({ preventScroll: true }); // the link that was followed may be gone, and with it the place where Tab goes on
    show();
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // its address would be that of another view
    main.focus();
  });
  addEventListener("signed-out", () => session.me().user && signOut("This token is no longer valid."));
  if (!session.token()) return askForToken();
  return enter().catch((error) => (error.status === 401 ? signOut("This token is no longer valid.") : refill(main, h("div", { class: "view" }, failure(error)))));
}

/** @param {string} [why] */
function askForToken(why) {
  leave();
  refill(top, h("span", { class: "brand" }, "trainbox"));
  document.title = "Sign in · trainbox";
  signIn(main, enter, why);
}

/** Raises Problem when the token is not valid. */
async function enter() {
  session.introduce(await get("/v1/whoami"));
  await show();
}

/** @param {string} [why] */
function signOut(why) {
  session.forget();
  askForToken(why);
}

function leave() {
  leaving.abort();
  leaving = new AbortController();
  main.replaceChildren();
}

async function show() {
  if (!session.token()) return;
  const route = here();
  if (!Object.hasOwn(VIEWS, route.view)) route.view = "box";
  const view = VIEWS[route.view];
  leave();
  const { signal } = leaving;
  drawTop(route.view);
  document.title = `${view.title} · trainbox`;
  const root = h("div", { class: `view ${route.view}` });
  main.append(root);
  try {
    const { show: draw } = await view.load().catch(() => { throw new Error("the service cannot be reached"); });
    if (!signal.aborted) await draw(root, route, signal);
  } catch (error) {
    if (signal.aborted || error.status === 401) return;
    refill(root, failure(error));
  }
}

/** What to say in place of a view, and where to go on. @param {any} error */
function failure(error) {
  const gone = error.status === 404;
  return [h("h1", {}, gone ? "There is no such thing here" : "This did not work"), h("p", {}, error.message),
    h("p", {}, gone ? h("a", { href: href("runs") }, "All runs") : h("button", { click: () => location.reload() }, "Try again"))];
}

/** @param {string} name of the view shown */
function drawTop(name) {
  const current = UNDER[name] ?? name;
  refill(top,
    h("a", { class: "brand", href: href("box") }, "trainbox"),
    h("nav", { "aria-label": "Views" }, MENU.filter((each) => each !== "submit" || session.maySubmit()).map((each) =>
      h("a", { href: href(each), "aria-current": each === current ? "page" : null }, VIEWS[each].title))),
    h("div", { class: "row tools" },
      h("span", { class: "muted", title: `scope: ${session.me().scope}` }, session.me().user),
      h("button", { class: "quiet", click: theme.toggle, "aria-label": "Light or dark" }, "◐"),
      h("button", { class: "quiet", click: keys.help, "aria-label": "Keys" }, "?"),
      h("button", { class: "quiet", click: () => signOut() }, "Sign out")));
}

start();
