// Download all masks as one ZIP.

import { ask } from "./api.js";
import { $ } from "./dom.js";
import { notice, tried } from "./notices.js";
import { saveAll } from "./saving.js";

export async function download() {
  const boxes = [...document.querySelectorAll('[name="format"]:checked')];
  if (!boxes.length) return notice("Choose at least one format.");
  if (!(await saveAll())) return null;
  $("download").disabled = true;
  await tried(async () => {
    const query = boxes.map((box) => `formats=${box.value}`).join("&");
    const answer = await ask(`/api/download?${query}&instances=${$("instances").checked}`, { method: "POST" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = "masks.zip";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
  $("download").disabled = false;
  return null;
}
