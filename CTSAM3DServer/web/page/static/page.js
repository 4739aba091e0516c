// What a page of CT-SAM3D does by itself: files in and out, keys, and what to do when the connection is lost.
(() => {
  "use strict";

  const state = () => window.trame.state;
  const problem = (text) => state().set("problem", text);
  let upload = null;

  // Files in

  async function filesOf(entry, path = "") {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      return [{ file, name: path + file.name }];
    }
    const reader = entry.createReader();
    const inside = [];
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (some.length === 0) break;
      inside.push(...some);
    }
    const lists = await Promise.all(inside.map((one) => filesOf(one, `${path}${entry.name}/`)));
    return lists.flat();
  }

  function send(files) {
    if (files.length === 0 || !mayReplace()) return;
    const form = new FormData();
    for (const { file, name } of files) form.append("file", file, encodeURIComponent(name));
    upload = new XMLHttpRequest();
    upload.upload.onprogress = (event) => state().set("upload", event.loaded < event.total ? (100 * event.loaded) / event.total : -1);
    upload.onloadend = () => state().set("upload", -1);
    upload.onerror = () => problem("The files did not arrive; look whether ctsam3d web still runs, and drop them again.");
    upload.onload = () => {
      if (upload.status >= 400) problem(upload.responseText || "The files cannot be taken.");
    };
    upload.open("POST", "files");
    state().set("upload", 0);
    upload.send(form);
  }

  // Whether what is open may be replaced, which takes its segments along.
  const mayReplace = () =>
    !(state().get("segments") || []).some((segment) => segment.ml > 0) ||
    window.confirm("Open another CT? The segments on this one go, unless you have saved them.");

  function sample() {
    if (mayReplace()) window.trame.trigger("sample");
  }

  function pick(folder) {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.webkitdirectory = folder;
    input.onchange = () => send([...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
    input.click();
  }

  let inside = 0;
  const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  const dropping = (change) => {
    inside = Math.max(0, inside + change);
    state().set("dropping", inside > 0);
  };
  window.addEventListener("dragenter", (event) => hasFiles(event) && dropping(1));
  window.addEventListener("dragleave", (event) => hasFiles(event) && dropping(-1));
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    inside = 0;
    dropping(0);
    // All are asked for at once: after the event they are gone.
    const dropped = [...event.dataTransfer.items].map((item) => [item.webkitGetAsEntry(), item.getAsFile()]);
    try {
      const lists = dropped.map(([entry, file]) => (entry ? filesOf(entry) : file ? [{ file, name: file.name }] : []));
      send((await Promise.all(lists)).flat());
    } catch (error) {
      problem(`The dropped files cannot be read (${error.message}); open them by the button.`);
    }
  });

  // Files out

  async function download(kind) {
    const answer = await fetch(`download/${kind}`).catch(() => null);
    if (answer === null || !answer.ok) {
      problem(answer === null ? "Nothing came; look whether ctsam3d web still runs." : await answer.text());
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = decodeURIComponent(answer.headers.get("X-File-Name"));
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // Keys

  const TYPED = ["INPUT", "TEXTAREA", "SELECT"];
  function keyName(event) {
    const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
    const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
    return control + (event.shiftKey && key !== "?" ? "Shift+" : "") + key;
  }
  window.addEventListener(
    "keydown",
    (event) => {
      const typing = TYPED.includes(event.target.tagName) && event.target.type !== "range";
      const name = keyName(event);
      if (document.querySelector(".v-dialog.v-overlay--active, .v-menu.v-overlay--active")) return; // its own keys
      if (typing || event.altKey || event.repeat || !(state().get("keys") || []).includes(name)) return;
      event.preventDefault();
      event.stopPropagation();
      window.trame.trigger("key", [name]);
    },
    true
  );

  // The connection

  const lost = {
    template: `<div class="ctsam3d-lost"><h2>{{ title }}</h2><p>{{ text }}</p></div>`,
    data: () => ({ title: "The connection is lost", text: "Trying again; your clicks are kept.", timer: 0 }),
    mounted() {
      this.timer = setInterval(this.look, 1000);
      this.look();
    },
    unmounted() {
      clearInterval(this.timer);
    },
    methods: {
      async look() {
        const answer = await fetch("alive", { cache: "no-store" }).catch(() => null);
        if (answer === null) {
          this.text = "ctsam3d web does not answer. Start it again if it has ended; this page comes back by itself.";
        } else if (answer.ok) {
          window.location.reload();
        } else {
          this.text = await answer.text();
        }
      },
    },
  };

  window.ctsam3dPage = { install: (app) => {
      app.component("ctsam3d-lost", lost);
      app.config.globalProperties.ctsam3d = window.ctsam3d; // for the templates
    },
  };
  window.ctsam3d = { pick, sample, download, cancelUpload: () => upload && upload.abort() };
})();
