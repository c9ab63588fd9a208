// The page: connects each control to its function and starts the page.

import { addClass, keepSettings, resetThreshold, setThreshold } from "./classes.js";
import { $, arrows } from "./dom.js";
import { download } from "./download.js";
import { add, arrange, dropping } from "./folder.js";
import { brushKeys, shortcut } from "./keys.js";
import { tried } from "./notices.js";
import { accept, begin, cancel, end, fill, setUnpainted, snap, step, stroke, take } from "./painting.js";
import { listen, segment } from "./runs.js";
import { clear, saveAll } from "./saving.js";
import { load } from "./session.js";
import { leave, setView } from "./shown.js";
import { state } from "./state.js";
import { showStatus } from "./status.js";
import { setSize, setTool, stage } from "./tools.js";

stage.on = { begin, stroke, end, cancel, fill };
$("segment").addEventListener("click", segment);
$("accept").addEventListener("click", accept);
$("clear").addEventListener("click", clear);
$("snap").addEventListener("click", snap);
$("grown-take").addEventListener("click", take);
$("grown-leave").addEventListener("click", leave);
$("undo").addEventListener("click", () => step("undo"));
$("redo").addEventListener("click", () => step("redo"));
$("zoom-in").addEventListener("click", () => stage.zoom(1.25));
$("zoom-out").addEventListener("click", () => stage.zoom(0.8));
$("zoom-fit").addEventListener("click", () => stage.fit());
$("size").addEventListener("input", (event) => setSize(event.target.value));
$("add-class").addEventListener("click", addClass);
$("threshold").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
$("threshold").addEventListener("change", keepSettings);
$("threshold-reset").addEventListener("click", resetThreshold);
$("order").addEventListener("change", arrange);
$("help").addEventListener("click", () => $("help-dialog").showModal());
$("download").addEventListener("click", () => $("download-dialog").showModal());
$("download-dialog").addEventListener("close", (event) => {
  if (event.target.returnValue === "ok") download();
  event.target.returnValue = "";
});
for (const id of ["choose", "add-images"]) $(id).addEventListener("click", () => $("files").click());
$("files").addEventListener("change", async (event) => {
  await add([...event.target.files]);
  event.target.value = "";
});
$("stage").addEventListener("keydown", brushKeys);
document.addEventListener("keydown", shortcut);
document.addEventListener("visibilitychange", () => document.hidden && saveAll());
window.addEventListener("beforeunload", (event) => {
  if (state.saves.size) event.preventDefault();
  saveAll();
});
arrows($("tools").querySelector("[role=radiogroup]"), "tool", setTool);
arrows($("views"), "view", setView);
arrows($("unpainted"), "unpainted", setUnpainted);
dropping();
setTool("brush");
showStatus();
await tried(load);
listen();
