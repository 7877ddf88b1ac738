// What lies above the page: dialogs, and menus that drop from a button.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { Icon } from "./icons";

interface DialogProps {
  title: string;
  kind?: string;
  onClose: () => void;
  /** What has the focus once the dialog is gone; without it, what had it before. */
  then?: () => HTMLElement | null;
  children: ComponentChildren;
}

/** A modal dialog. The browser keeps the focus inside, closes it with Esc and gives the focus back. */
export function Dialog({ title, kind = "", onClose, then, children }: DialogProps) {
  const own = useRef<HTMLDialogElement>(null);
  const next = useRef(then);
  next.current = then;
  const heading = useId();
  useEffect(() => {
    const dialog = own.current!;
    dialog.showModal();
    return () => {
      dialog.close();
      // Nothing behind a modal dialog takes the focus before it is closed.
      next.current?.()?.focus();
    };
  }, []);
  return (
    <dialog
      ref={own}
      class={`dialog ${kind}`}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === own.current) onClose();
      }}
    >
      <div class="dialog-inside">
        <header class="dialog-head">
          <h2 id={heading}>{title}</h2>
          <button
            type="button"
            class="quiet round"
            aria-label={t("close")}
            title={t("close")}
            onClick={onClose}
          >
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

interface MenuProps {
  label: ComponentChildren;
  name?: string;
  title?: string;
  active?: boolean;
  kind?: string;
  children: (close: () => void) => ComponentChildren;
}

/** A button that opens a panel below it. Esc and a click elsewhere close it. */
export function Menu({ label, name, title, active = false, kind = "chip", children }: MenuProps) {
  const [open, setOpen] = useState(false);
  const own = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const panel = useId();

  useEffect(() => {
    if (!open) return undefined;
    const elsewhere = (event: Event): void => {
      if (!own.current!.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", elsewhere);
    document.addEventListener("focusin", elsewhere);
    const first = own.current!.querySelector<HTMLElement>(".panel input:checked, .panel input, .panel button");
    first?.focus({ preventScroll: true });
    return () => {
      document.removeEventListener("pointerdown", elsewhere);
      document.removeEventListener("focusin", elsewhere);
    };
  }, [open]);

  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  return (
    <div
      class="menu"
      ref={own}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !open) return;
        event.stopPropagation();
        close();
      }}
    >
      <button
        type="button"
        ref={button}
        class={`${kind}${active ? " active" : ""}`}
        aria-expanded={open}
        aria-controls={open ? panel : undefined}
        aria-label={name}
        title={title ?? name}
        onClick={() => setOpen(!open)}
      >
        {label}
      </button>
      {open && (
        <div class="panel" id={panel} role="group" aria-label={name ?? title}>
          {children(close)}
        </div>
      )}
    </div>
  );
}
