// The description of the chosen image, and which of its buttons are enabled.

import { $, check } from "./dom.js";
import { chosenImage, isRough, nameOf, nameOfOther, state } from "./state.js";
import { stage } from "./tools.js";

/** Show the meaning of unpainted pixels, and with it the use of the brush without a class. */
export function showUnpainted() {
  check($("unpainted").children, isRough() ? "unknown" : "background", "unpainted");
  const row = $("classes").lastElementChild;
  if (!row) return;
  const [pick, name] = row.children;
  name.textContent = nameOfOther();
  pick.title = isRough() ? "Paint what is none of the classes" : "Paint what nothing is said of";
  pick.setAttribute("aria-label", `Paint ${nameOfOther()}`);
}

export function showAbout() {
  const one = chosenImage();
  showUnpainted();
  const about = $("about");
  about.replaceChildren();
  $("accept").disabled = !one || !(state.mask || state.probabilities);
  $("accept").textContent = one?.painted?.support ? "Take out of supports" : "Accept as support";
  $("clear").disabled = !state.mask && !one?.painted;
  $("undo").disabled = !state.mask?.past.length;
  $("redo").disabled = !state.mask?.future.length;
  for (const node of document.querySelectorAll("[data-view]")) {
    node.disabled = ["guided", "prior"].includes(node.dataset.view) && !state.probabilities;
  }
  $("stage").setAttribute("aria-label", one ? `${one.name}. Arrow keys move the brush, Space paints.` : "No image");
  if (!one) return;
  const name = document.createElement("strong");
  name.textContent = one.name;
  about.append(name, `${sizeText()}${pagesText(one)}${describe(one)}${countText()}`);
}

const sizeText = () => (stage.shown && state.shown === state.key ? `${stage.shown.width} × ${stage.shown.height} px. ` : "");

const pagesText = ({ pages }) => (pages > 1 ? `Only the first of its ${pages} pages or frames is read. ` : "");

/** The number of single objects, per class if there are several classes. */
function countText() {
  const found = Object.entries(state.counts).filter(([, count]) => count);
  const said = found.map(([n, count]) => (state.classes.length > 1 ? `${nameOf(n)} ${count}` : count));
  return found.length ? ` Single objects: ${said.join(", ")}.` : "";
}

function describe({ painted, outcome }) {
  if (painted?.support || (state.mask && !painted && !outcome)) return "Painted by you, a support.";
  if (state.mask) return "Corrected by you; accept it to find the others by it, too.";
  if (outcome?.error) return outcome.error;
  const scores = Object.entries(outcome?.scores || {});
  if (!scores.length && isRough()) return "Paint a stroke on the object and some on the background, then press Segment.";
  if (!scores.length) return "Paint the object, then press Segment.";
  const said = ([n, score]) => `${score < state.presence ? "No " : ""}${nameOf(n)}: score ${score.toFixed(2)}.`;
  return `${scores.map(said).join(" ")}${outcome.stale ? " Of an earlier run." : ""}`;
}
