// What only those see who look after the house: storage, tokens, the audit, erasures.

import { useState } from "preact/hooks";
import { Problem } from "../api";
import * as format from "../format";
import { t } from "../i18n";
import * as manage from "../manage";
import { day, Sure, Table, useRead } from "../parts/kept";
import { ProblemTold } from "../parts/told";
import { house, isAdmin, mayChange, me } from "../state";
import { Field } from "./camera";
import { Tokens } from "./tokens";

/** Storage, tokens, audit and erasure, each where the reader may see it. */
export function Keeping() {
  const whole = me.value?.every_camera ?? false;
  return (
    <>
      {mayChange.value && whole && <Storage />}
      {isAdmin.value && whole && <Tokens />}
      {isAdmin.value && <Erasures />}
      {isAdmin.value && whole && <Audit />}
    </>
  );
}

const gigabytes = (bytes: number): string => `${format.number(Math.round(bytes / 1e8) / 10)} GB`;

function Storage() {
  const [now, problem, look] = useRead(manage.storage);
  return (
    <section>
      <h2>{t("storage")}</h2>
      {problem && <ProblemTold problem={problem} onRetry={look} />}
      {now && (
        <>
          <p>
            {t("storage.words", { moments: format.number(now.moments), buckets: format.number(now.buckets) })}{" "}
            {t("storage.going", { gone: format.number(now.gone), tomorrow: format.number(now.gone_tomorrow) })}{" "}
            {t("storage.disk", { free: gigabytes(now.disk_free_bytes), all: gigabytes(now.disk_bytes) })}
          </p>
          {now.missing.map((one) => (
            <p key={one} class="hint wrong">
              {t("storage.missing", { part: one })}
            </p>
          ))}
          <Table heads={["camera", "storage.oldest", "storage.kept"]} name={t("storage")}>
            {now.cameras.map((one) => (
              <tr key={one.camera}>
                <th scope="row">{one.camera}</th>
                <td>{day(one.oldest_ms)}</td>
                <td>
                  {one.days ? t("storage.days", { days: format.number(one.days) }) : t("edit.ever")}
                  {one.bytes > 0 && `, ${t("storage.bytes", { size: gigabytes(one.bytes) })}`}
                  {one.bytes_days > 0 && ` (${t("storage.bytes_days", { days: format.number(one.bytes_days) })})`}
                  {one.held_below > 0 && `; ${t("storage.held", { n: format.number(one.held_below) })}`}
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </section>
  );
}

function Erasures() {
  const [found, problem, look, failed] = useRead(manage.erasures);
  const [camera, setCamera] = useState("");
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [reason, setReason] = useState("");
  const [sure, setSure] = useState(false);
  const names = house.value?.cameras.map((one) => one.name) ?? [];
  const erase = async (): Promise<void> => {
    setSure(false);
    await manage.erase(camera, Date.parse(from) || 0, Date.parse(to) || 0, reason).then(() => {
      setReason("");
      look();
    }, failed);
  };
  const save = async (number: number): Promise<void> => {
    try {
      const url = URL.createObjectURL(await manage.receipt(number));
      const link = document.createElement("a");
      link.href = url;
      link.download = `erasure-${number}.json`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      failed(error);
    }
  };
  return (
    <section>
      <h2>{t("erase")}</h2>
      <p class="hint">{t("erase.about")}</p>
      {problem && <ProblemTold problem={problem} onRetry={look} />}
      <form
        class="inline-form"
        onSubmit={(event) => {
          event.preventDefault();
          setSure(true);
        }}
      >
        <Field name={t("camera")}>
          <select required value={camera} onChange={(event) => setCamera(event.currentTarget.value)}>
            <option value="" />
            {names.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </Field>
        <Field name={t("since.from")}>
          <input type="datetime-local" value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
        </Field>
        <Field name={t("since.to")}>
          <input type="datetime-local" value={to} onInput={(event) => setTo(event.currentTarget.value)} />
        </Field>
        <Field name={t("erase.reason")}>
          <input maxLength={1000} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        </Field>
        <button type="submit" class="button danger" disabled={!camera}>
          {t("erase.do")}
        </button>
      </form>
      {Boolean(found?.length) && (
        <Table heads={["erase.number", "camera", "span", "erase.reason", "tokens.state", "erase.receipt"]} name={t("erase")}>
          {found?.map((one) => (
            <tr key={one.number}>
              <th scope="row">{one.number}</th>
              <td>{one.camera}</td>
              <td>
                {one.start_ms ? format.moment(one.start_ms) : "–"} – {format.moment(one.end_ms)}
              </td>
              <td>{one.reason}</td>
              <td>{one.done_ms ? t("erase.done", { time: format.moment(one.done_ms) }) : t("erase.going")}</td>
              <td>
                <button type="button" class="button" onClick={() => void save(one.number)}>
                  {t("erase.save")}
                </button>
              </td>
            </tr>
          ))}
        </Table>
      )}
      {sure && (
        <Sure
          title={t("erase.sure", { camera })}
          words={t("erase.sure_words")}
          yes={t("erase.do")}
          onYes={() => void erase()}
          onClose={() => setSure(false)}
        />
      )}
    </section>
  );
}

function Audit() {
  const [found, setFound] = useState<manage.Audit | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const look = (verify: boolean): void => {
    setProblem(null);
    manage.audit(verify).then(setFound, (error: unknown) => {
      setProblem(error instanceof Problem ? error : new Problem(-1, "", String(error), ""));
    });
  };
  const text = (one: Record<string, unknown>, name: string): string => String(one[name] ?? "");
  return (
    <section>
      <h2>{t("audit")}</h2>
      {problem && <ProblemTold problem={problem} onRetry={() => look(false)} />}
      <p class="actions">
        <button type="button" class="button" onClick={() => look(false)}>
          {t("audit.show")}
        </button>
        <button type="button" class="button" onClick={() => look(true)}>
          {t("audit.verify")}
        </button>
      </p>
      {found?.chains.map((one) => (
        <p key={one.name} class={one.trouble ? "hint wrong" : "hint"} role="status">
          {one.trouble
            ? t("audit.trouble", { name: one.name, trouble: one.trouble })
            : t("audit.well", { name: one.name, lines: format.number(one.lines), head: one.head.slice(0, 16) })}
        </p>
      ))}
      {found && (
        <Table heads={["time", "audit.who", "audit.what", "camera", "audit.outcome"]} name={t("audit")}>
          {found.lines.map((one, at) => (
            <tr key={at}>
              <td>{format.moment(Date.parse(text(one, "at")) || 0)}</td>
              <td>{text(one, "who")}</td>
              <td>
                {text(one, "what")} {text(one, "text")}
              </td>
              <td>{text(one, "camera")}</td>
              <td>{text(one, "outcome")}</td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}
