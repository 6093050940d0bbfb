// What ipywidgets cannot do: keys that work anywhere in a panel, names for its sliders, and the clipboard.
function render({ model, el }) {
  el.style.display = "none";
  const panel = () => el.closest(".mlxnb-panel");
  const click = (kind) => {
    const button = panel().querySelector(`button.mlxnb-${kind}:not([disabled])`);
    if (button) button.click();
    return Boolean(button);
  };
  const key = (event) => {
    if (!panel()?.contains(event.target)) return;
    const generates = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    const kind = generates ? "primary" : event.key === "Escape" ? "stop" : null;
    // A box of a number tells the kernel what was typed only once the focus leaves it.
    if (generates && event.target.matches("input,[contenteditable]")) {
      event.target.blur();
      event.target.focus();
    }
    if (kind && click(kind)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  };
  // A browser offers only the names that match what stands in the box: empty while it has the focus, it offers all.
  const names = ".mlxnb-names input";
  const offer = (event) => {
    const box = event.target;
    if (!panel()?.contains(box) || !box.matches(names)) return;
    if (event.type === "focusin") {
      box.dataset.was = box.placeholder = box.value;
      box.value = "";
    } else if (!box.value && box.dataset.was) {
      box.value = box.dataset.was;
    }
  };
  const name = () => {
    for (const slider of panel()?.querySelectorAll(".widget-slider") ?? []) {
      const label = slider.querySelector("label")?.textContent;
      for (const handle of slider.querySelectorAll("[role=slider]")) handle.setAttribute("aria-label", label);
      slider.querySelector("[contenteditable]")?.setAttribute("aria-label", `${label}, as a number`);
    }
  };
  const hear = async (message) => {
    if (message.focus) {
      panel()?.querySelector(`.${message.focus} :is(input,textarea)`)?.focus();
      return;
    }
    try {
      await navigator.clipboard.writeText(message.copy);
      model.send({ copied: true });
    } catch (error) {
      model.send({ copied: false });
    }
  };
  // Before JupyterLab's own keys, which listen on the document.
  window.addEventListener("keydown", key, true);
  for (const kind of ["focusin", "focusout", "change"]) window.addEventListener(kind, offer, true);
  model.on("msg:custom", hear);
  const seen = new MutationObserver(name);
  requestAnimationFrame(() => {
    name();
    if (!panel()) return;
    panel().dataset.keys = "on";
    seen.observe(panel(), { childList: true, subtree: true });
  });
  return () => {
    window.removeEventListener("keydown", key, true);
    for (const kind of ["focusin", "focusout", "change"]) window.removeEventListener(kind, offer, true);
    model.off("msg:custom", hear);
    seen.disconnect();
  };
}
export default { render };
