// The field, and beside it what can be asked instead of words: a picture.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { keepPicture, keptPicture } from "../keep";
import { asJpeg } from "../pictures";
import { asks, questionKey } from "../route";
import { askFor, refresh, route, saved, toggleSaved } from "../state";
import { Icon } from "./icons";
import { MomentPicture } from "./picture";

/** Why a picture could not be taken; "" when it could. */
export const pictureRefused = signal("");

export async function askByPicture(file: Blob): Promise<void> {
  pictureRefused.value = "";
  try {
    askFor({ picture: await keepPicture(await asJpeg(file)) });
  } catch {
    pictureRefused.value = t("picture.refused");
  }
}

export function SearchBar({ large = false }: { large?: boolean }) {
  const now = route.value;
  const [text, setText] = useState(now.q);
  const field = useRef<HTMLInputElement>(null);
  const file = useRef<HTMLInputElement>(null);
  useEffect(() => setText(now.q), [now.q, now.like, now.part, now.picture]);
  const byPicture = Boolean(now.like || now.part || now.picture);
  const isSaved = saved.value.includes(questionKey(now));

  const submit = (event: Event): void => {
    event.preventDefault();
    const words = text.trim();
    if (!words && byPicture) return;
    if (words && words === now.q && !byPicture) refresh();
    else askFor({ q: words });
    field.current?.blur();
  };
  return (
    <form class={large ? "search large" : "search"} role="search" onSubmit={submit}>
      <Icon name="search" />
      {byPicture && <Asked />}
      <input
        ref={field}
        id="question"
        type="search"
        enterkeyhint="search"
        autocomplete="off"
        spellcheck={false}
        maxLength={2000}
        value={text}
        placeholder={byPicture ? t("ask.words_instead") : t("ask.placeholder")}
        aria-label={t("ask.label")}
        autofocus={large}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      {(text || byPicture) && (
        <button
          type="button"
          class="quiet round"
          aria-label={t("ask.clear")}
          title={t("ask.clear")}
          onClick={() => {
            setText("");
            askFor({});
            field.current?.focus();
          }}
        >
          <Icon name="close" />
        </button>
      )}
      {asks(now) && (
        <button
          type="button"
          class={`quiet round star${isSaved ? " on" : ""}`}
          aria-pressed={isSaved}
          aria-label={t("saved.save")}
          title={isSaved ? t("saved.unsave") : t("saved.save")}
          onClick={() => toggleSaved(questionKey(now))}
        >
          <Icon name="star" filled={isSaved} />
        </button>
      )}
      <button
        type="button"
        class="quiet round"
        aria-label={t("ask.by_picture")}
        title={t("ask.by_picture_hint")}
        onClick={() => file.current?.click()}
      >
        <Icon name="picture" />
      </button>
      <input
        ref={file}
        class="hidden"
        type="file"
        accept="image/*"
        tabIndex={-1}
        aria-hidden="true"
        onChange={(event) => {
          const chosen = event.currentTarget.files?.[0];
          event.currentTarget.value = "";
          if (chosen) void askByPicture(chosen);
        }}
      />
    </form>
  );
}

/** What is asked, where it is not words. */
function Asked() {
  const now = route.value;
  const words = now.like ? t("asked.like") : now.part ? t("asked.part") : t("asked.picture");
  return (
    <span class="asked">
      {now.like ? (
        <MomentPicture moment={now.like} at={0} alt="" eager />
      ) : (
        <Thumb />
      )}
      {words}
    </span>
  );
}

function Thumb() {
  const now = route.value;
  const [url, setUrl] = useState("");
  useEffect(() => {
    const kept = now.picture ? keptPicture(now.picture) : null;
    if (!kept) return undefined;
    const made = URL.createObjectURL(kept);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [now.picture]);
  if (now.part) return <PartThumb />;
  return url ? <img class="asked-picture" src={url} alt="" /> : null;
}

/** The part that is asked for, seen through a window: no second picture is made. */
function PartThumb() {
  const part = route.value.part!;
  const [size, setSize] = useState<[number, number, string] | null>(null);
  const { left, top, right, bottom } = part.box;
  const wide = size ? (right - left) * size[0] : 1;
  const high = size ? (bottom - top) * size[1] : 1;
  return (
    <>
      <span class="unseen">
        <MomentPicture
          moment={part.moment}
          at={part.at}
          alt=""
          eager
          onSeen={(seen) => setSize(seen && [seen.width, seen.height, seen.picture.url])}
        />
      </span>
      {size && (
        <svg
          class="asked-picture"
          viewBox={`${left * size[0]} ${top * size[1]} ${wide} ${high}`}
          preserveAspectRatio="xMidYMid slice"
          aria-hidden="true"
        >
          <image href={size[2]} width={size[0]} height={size[1]} />
        </svg>
      )}
    </>
  );
}

/** Dropping a picture anywhere, or pasting one, asks by it. */
export function useDroppedPictures(): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const carries = (event: DragEvent): boolean => Boolean(event.dataTransfer?.types.includes("Files"));
    const enter = (event: DragEvent): void => {
      if (!carries(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event: DragEvent): void => {
      if (!event.relatedTarget) setOver(false);
    };
    const drop = (event: DragEvent): void => {
      if (!carries(event)) return;
      event.preventDefault();
      setOver(false);
      const file = event.dataTransfer!.files[0];
      if (file) void askByPicture(file);
    };
    const paste = (event: ClipboardEvent): void => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      void askByPicture(file);
    };
    document.addEventListener("dragenter", enter);
    document.addEventListener("dragover", enter);
    document.addEventListener("dragleave", leave);
    document.addEventListener("drop", drop);
    document.addEventListener("paste", paste);
    return () => {
      document.removeEventListener("dragenter", enter);
      document.removeEventListener("dragover", enter);
      document.removeEventListener("dragleave", leave);
      document.removeEventListener("drop", drop);
      document.removeEventListener("paste", paste);
    };
  }, []);
  return over;
}

