// One camera: looked at before it is added, changed, drawn on, removed.

import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "../api";
import { t } from "../i18n";
import * as manage from "../manage";
import { AreaDrawer } from "../parts/areadrawer";
import { Dialog } from "../parts/overlay";
import { ProblemTold, Words } from "../parts/told";
import { take } from "../pictures";
import { recent } from "../recent";
import { NEW } from "../route";
import { go, isAdmin, lookAtHouse, me } from "../state";

const GB = 1e9;
/** The status of a change to what was changed meanwhile. */
const CHANGED = 412;
/** What a recording may take where nothing is said. */
const USUAL = { days: 30, gb: 50 };

/** The form, as it is typed. */
interface Draft {
  name: string;
  url: string;
  enabled: boolean;
  loop: boolean;
  fps: string;
  packetGate: manage.PacketGate | "";
  groups: string;
  site: string;
  days: string;
  gb: string;
  record: boolean;
  recordDays: string;
  recordGb: string;
  unmasked: boolean;
  masks: manage.Area[];
  ignored: manage.Area[];
}

const inGb = (bytes: number | null | undefined): string => (bytes == null ? "" : String(bytes / GB));

function draftOf(now: manage.CameraSettings | null): Draft {
  return {
    name: now?.name ?? "",
    url: "",
    enabled: now?.enabled ?? true,
    loop: now?.loop ?? false,
    fps: now?.fps?.toString() ?? "",
    packetGate: now?.packet_gate ?? "",
    groups: now?.groups.join(", ") ?? "",
    site: now?.site ?? "",
    days: now?.retention_days?.toString() ?? "",
    gb: inGb(now?.retention_bytes),
    record: now?.record?.on ?? false,
    recordDays: String(now?.record?.days ?? USUAL.days),
    recordGb: String((now?.record?.bytes ?? USUAL.gb * GB) / GB),
    unmasked: now?.unmasked_recording ?? false,
    masks: now?.masks ?? [],
    ignored: now?.ignored ?? [],
  };
}

/** What differs between the form and what there is. */
export function changeOf(draft: Draft, before: Draft): manage.CameraChange {
  const change: manage.CameraChange = {};
  const differs = (...names: (keyof Draft)[]): boolean =>
    names.some((name) => JSON.stringify(draft[name]) !== JSON.stringify(before[name]));
  if (draft.url.trim()) change.url = draft.url.trim();
  if (differs("enabled")) change.enabled = draft.enabled;
  if (differs("loop")) change.loop = draft.loop;
  if (differs("fps")) change.fps = draft.fps.trim() ? Number(draft.fps) : null;
  if (differs("packetGate")) change.packet_gate = draft.packetGate || null;
  if (differs("groups")) change.groups = draft.groups.split(/[\s,]+/).filter(Boolean);
  if (differs("site")) change.site = draft.site.trim();
  if (differs("days")) change.retention_days = draft.days.trim() ? Number(draft.days) : null;
  if (differs("gb")) change.retention_bytes = draft.gb.trim() ? Math.round(Number(draft.gb) * GB) : null;
  if (differs("record", "recordDays", "recordGb")) {
    change.record = { on: draft.record, days: Number(draft.recordDays), bytes: Math.round(Number(draft.recordGb) * GB) };
  }
  if (differs("unmasked")) change.unmasked_recording = draft.unmasked;
  if (differs("masks")) change.masks = draft.masks;
  if (differs("ignored")) change.ignored = draft.ignored;
  return change;
}

export function CameraDialog({ edit }: { edit: string }) {
  const fresh = edit === NEW;
  const [there, setThere] = useState<manage.Tagged | null>(null);
  const [draft, setDraft] = useState<Draft>(draftOf(null));
  const [problem, setProblem] = useState<Problem | null>(null);
  /** What failed, and may do when it is tried again. */
  const again = useRef<(() => Promise<void>) | null>(null);
  const [shot, setShot] = useState<manage.Shot | null>(null);
  /** The address that the test picture was taken of. */
  const seen = useRef<string | null>(null);
  const [busy, setBusy] = useState<"" | "look" | "save">("");
  const [sure, setSure] = useState(false);
  const last = useLastPicture(fresh ? "" : edit);
  const gone = useRef(new AbortController());
  const set = (part: Partial<Draft>): void => setDraft((now) => ({ ...now, ...part }));
  const close = (): void => go({ edit: "" });

  const failed = (error: unknown): void => {
    if (gone.current.signal.aborted) return;
    setProblem(error instanceof Problem ? error : new Problem(-1, "", String(error), ""));
  };
  const load = (): void => {
    setProblem(null);
    manage.cameraSettings(edit).then((found) => {
      setThere(found);
      setDraft(draftOf(found.settings));
    }, failed);
  };
  useEffect(() => {
    gone.current = new AbortController();
    if (!fresh) load();
    return () => gone.current.abort();
  }, [edit]);
  useEffect(() => () => URL.revokeObjectURL(shot?.url ?? ""), [shot]);

  const during = async (what: "look" | "save", work: () => Promise<void>): Promise<void> => {
    setBusy(what);
    setProblem(null);
    again.current = () => during(what, work);
    try {
      await work();
    } catch (error) {
      failed(error);
    } finally {
      setBusy("");
    }
  };
  const look = (): Promise<void> =>
    during("look", async () => {
      setShot(null);
      seen.current = null;
      const url = draft.url.trim();
      setShot(await manage.testPicture(draft.name || edit, url, gone.current.signal));
      seen.current = url;
    });
  const save = (): Promise<void> =>
    during("save", async () => {
      const change = changeOf(draft, draftOf(there?.settings ?? null));
      // What was looked at a moment ago need not be opened once more.
      if (change.url && seen.current === change.url) change.unchecked = true;
      if (fresh) await manage.addCamera(draft.name.trim(), { ...change, url: draft.url.trim() });
      else if (Object.keys(change).length) await manage.changeCamera(edit, there!.tag, change);
      await lookAtHouse();
      close();
    });
  const remove = (): Promise<void> =>
    during("save", async () => {
      await manage.removeCamera(edit, there!.tag);
      await lookAtHouse();
      close();
    });

  /** What was typed and drawn is kept, but where somebody else changed the camera: then it is read anew. */
  const retry = (): void => {
    if (!fresh && (!there || problem?.status === CHANGED)) load();
    else if (problem?.passing && again.current) void again.current();
    else setProblem(null);
  };

  const picture = shot?.url ?? last;
  const complete = fresh ? Boolean(draft.name.trim() && draft.url.trim()) : there !== null;
  const whole = me.value?.every_camera ?? false;
  const isFile = draft.url.trim()
    ? /^(file:|\/(?!dev\/))/.test(draft.url.trim())
    : there?.settings.kind === "file";
  return (
    <Dialog title={fresh ? t("cameras.add") : edit} kind="camera-dialog" onClose={close}>
      {problem && <ProblemTold problem={problem} onRetry={retry} />}
      {(fresh || there) && (
        <form
          class="camera-form"
          onSubmit={(event) => {
            event.preventDefault();
            if (complete && !busy) void save();
          }}
        >
          <div class="fields">
            {fresh && (
              <Field name={t("edit.name")} hint={t("edit.name_hint")}>
                <input
                  required
                  autofocus
                  pattern="[A-Za-z0-9][A-Za-z0-9._\-]{0,63}"
                  value={draft.name}
                  onInput={(event) => set({ name: event.currentTarget.value })}
                />
              </Field>
            )}
            <Field
              name={t("edit.address")}
              hint={fresh ? t(isAdmin.value ? "edit.address_hint_admin" : "edit.address_hint") : t("edit.address_kept")}
            >
              <input
                required={fresh}
                autocomplete="off"
                spellcheck={false}
                value={draft.url}
                placeholder={fresh ? "rtsp://user:password@10.0.0.7/stream" : there?.settings.address}
                onInput={(event) => set({ url: event.currentTarget.value })}
              />
            </Field>
            <div>
              <button
                type="button"
                class="button"
                disabled={busy !== "" || (fresh && !(draft.name.trim() && draft.url.trim()))}
                onClick={() => void look()}
              >
                {t(busy === "look" ? "edit.looking" : "edit.look")}
              </button>{" "}
              <span class="hint" role="status">
                {shot?.words}
              </span>
            </div>
            {whole && (
              <Field name={t("edit.groups")} hint={t("edit.groups_hint")}>
                <input value={draft.groups} onInput={(event) => set({ groups: event.currentTarget.value })} />
              </Field>
            )}
            <Field name={t("edit.site")} hint={t("edit.site_hint")}>
              <input
                pattern="([A-Za-z0-9][A-Za-z0-9._\-]{0,63})?"
                value={draft.site}
                onInput={(event) => set({ site: event.currentTarget.value })}
              />
            </Field>
            <div class="pair">
              <Field name={t("edit.fps")}>
                <input
                  type="number"
                  min="0.1"
                  max="60"
                  step="any"
                  placeholder={t("edit.usual")}
                  value={draft.fps}
                  onInput={(event) => set({ fps: event.currentTarget.value })}
                />
              </Field>
              <Field name={t("edit.days")}>
                <input
                  type="number"
                  min="0.05"
                  step="any"
                  placeholder={there?.settings.others_days?.toString() ?? t("edit.ever")}
                  value={draft.days}
                  onInput={(event) => set({ days: event.currentTarget.value })}
                />
              </Field>
              <Field name={t("edit.gb")}>
                <input
                  type="number"
                  min="0.01"
                  step="any"
                  placeholder={inGb(there?.settings.others_bytes) || t("edit.any")}
                  value={draft.gb}
                  onInput={(event) => set({ gb: event.currentTarget.value })}
                />
              </Field>
            </div>
            {!isFile && (
              <Field name={t("edit.packet_gate")} hint={t("edit.packet_gate_hint")}>
                <select
                  value={draft.packetGate}
                  onChange={(event) => set({ packetGate: event.currentTarget.value as Draft["packetGate"] })}
                >
                  <option value="">{t("edit.usual")}</option>
                  <option value="auto">{t("edit.packet_gate_auto")}</option>
                  <option value="off">{t("edit.packet_gate_off")}</option>
                </select>
              </Field>
            )}
            <Check name={t("edit.enabled")} on={draft.enabled} onChange={(enabled) => set({ enabled })} />
            {isFile && (
              <Check name={t("edit.loop")} on={draft.loop} onChange={(loop) => set({ loop })} />
            )}
            <Check name={t("edit.record")} on={draft.record} onChange={(record) => set({ record })} />
            {draft.record && (
              <div class="pair">
                <Field name={t("edit.record_days")}>
                  <input
                    type="number"
                    min="0.1"
                    step="any"
                    required
                    value={draft.recordDays}
                    onInput={(event) => set({ recordDays: event.currentTarget.value })}
                  />
                </Field>
                <Field name={t("edit.record_gb")}>
                  <input
                    type="number"
                    min="0.1"
                    step="any"
                    required
                    value={draft.recordGb}
                    onInput={(event) => set({ recordGb: event.currentTarget.value })}
                  />
                </Field>
              </div>
            )}
            {draft.record && draft.masks.length > 0 && (
              <Check name={t("edit.unmasked")} on={draft.unmasked} onChange={(unmasked) => set({ unmasked })} />
            )}
          </div>
          <div class="beside">
            <h3>{t("areas")}</h3>
            <p class="hint">{t("areas.about")}</p>
            {picture ? (
              <AreaDrawer
                picture={picture}
                masks={draft.masks}
                ignored={draft.ignored}
                onChange={(kind, areas) => set({ [kind]: areas })}
              />
            ) : (
              <div class="picture">
                <p class="no-picture">{t("edit.no_picture")}</p>
              </div>
            )}
          </div>
          <div class="form-end">
            {!fresh && there?.settings.watching && (
              <button type="button" class="button danger" disabled={busy !== ""} onClick={() => setSure(true)}>
                {t("edit.remove")}
              </button>
            )}
            <span class="spring" />
            <button type="button" class="button" onClick={close}>
              {t("cancel")}
            </button>
            <button type="submit" class="button main" disabled={!complete || busy !== ""}>
              {t(fresh ? "edit.add" : "edit.save")}
            </button>
          </div>
        </form>
      )}
      {sure && (
        <Dialog title={t("edit.remove_title", { camera: edit })} kind="small" onClose={() => setSure(false)}>
          <p>
            <Words>{t("edit.remove_words")}</Words>
          </p>
          <div class="form-end">
            <span class="spring" />
            <button type="button" class="button" autofocus onClick={() => setSure(false)}>
              {t("cancel")}
            </button>
            <button type="button" class="button main danger" disabled={busy !== ""} onClick={() => void remove()}>
              {t("edit.remove")}
            </button>
          </div>
        </Dialog>
      )}
    </Dialog>
  );
}

interface FieldProps {
  name: string;
  hint?: string;
  children: preact.ComponentChildren;
}

export function Field({ name, hint, children }: FieldProps) {
  return (
    <label class="field">
      <span>{name}</span>
      {children}
      {hint && <span class="hint">{hint}</span>}
    </label>
  );
}

function Check({ name, on, onChange }: { name: string; on: boolean; onChange: (on: boolean) => void }) {
  return (
    <label class="choice">
      <input type="checkbox" checked={on} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>{name}</span>
    </label>
  );
}

/** The picture that the camera's latest moment has; "" before it is there. */
function useLastPicture(camera: string): string {
  const [url, setUrl] = useState("");
  const hit = camera ? recent.value?.last.get(camera) : undefined;
  const moment = hit?.moment_id ?? "";
  useEffect(() => {
    if (!moment || url) return undefined; // the picture under one's pen stays the same
    let gone = false;
    const [coming, giveBack] = take(moment, hit!.at_ms);
    coming.then(
      (picture) => !gone && setUrl(picture.url),
      () => undefined,
    );
    return () => {
      gone = true;
      giveBack();
    };
  }, [moment]);
  return url;
}
