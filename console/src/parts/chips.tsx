// The filters of a question, as chips.

import { useState } from "preact/hooks";
import * as format from "../format";
import { kindName, t, type Key } from "../i18n";
import { asks, EMPTY, filters, parse, questionKey, type Route } from "../route";
import { go, house, route, saved, toggleSaved } from "../state";
import { Icon } from "./icons";
import { Menu } from "./overlay";

const SINCE: [string, Key][] = [
  ["15m", "since.15m"],
  ["1h", "since.1h"],
  ["24h", "since.24h"],
  ["7d", "since.7d"],
];
const SURE = [0.5, 0.8, 0.95];
const FILTER_FROM = 12;

function narrow(change: Partial<Route>): void {
  go({ ...change, limit: EMPTY.limit, moment: "", at: 0 });
}

export function Chips() {
  const now = route.value;
  return (
    <div class="chips" role="group" aria-label={t("filters")}>
      <Many
        name={t("cameras")}
        chosen={now.cameras}
        known={(house.value?.cameras ?? []).map((one) => one.name)}
        say={(name) => name}
        onChange={(cameras) => narrow({ cameras })}
      />
      <When />
      {Boolean(house.value?.kinds.length || now.objects.length) && (
        <Many
          name={t("objects")}
          chosen={now.objects}
          known={house.value?.kinds ?? []}
          say={kindName}
          hint={t("objects.hint")}
          onChange={(objects) => narrow({ objects })}
        />
      )}
      <Sure />
      {now.page === "ask" && <Order />}
      {saved.value.length > 0 && asks(now) && <Saved />}
      {filters(now) && (
        <button
          type="button"
          class="quiet"
          onClick={() => narrow({ cameras: [], objects: [], since: "", from: 0, to: 0, sure: 0, all: false })}
        >
          {t("filters.clear")}
        </button>
      )}
    </div>
  );
}

interface ManyProps {
  name: string;
  chosen: string[];
  known: string[];
  say: (one: string) => string;
  hint?: string;
  onChange: (chosen: string[]) => void;
}

function Many({ name, chosen, known, say, hint, onChange }: ManyProps) {
  const label = chosen.length === 0 ? name : chosen.length === 1 ? say(chosen[0]!) : t("filters.many", { name, n: chosen.length });
  return (
    <Menu label={<Label words={label} />} name={chosen.length ? `${name}: ${chosen.map(say).join(", ")}` : name} active={chosen.length > 0}>
      {() => <Choices {...{ name, chosen, known, say, onChange }} hint={hint ?? ""} />}
    </Menu>
  );
}

function Choices({ name, chosen, known, say, hint, onChange }: ManyProps) {
  const [part, setPart] = useState("");
  const all = [...new Set([...chosen, ...known])].toSorted((a, b) => say(a).localeCompare(say(b)));
  const shown = all.filter((one) => `${say(one)} ${one}`.toLowerCase().includes(part.trim().toLowerCase()));
  return (
    <>
      {all.length > FILTER_FROM && (
        <input
          class="part-of-name"
          type="search"
          value={part}
          placeholder={t("filters.find", { name })}
          aria-label={t("filters.find", { name })}
          onInput={(event) => setPart(event.currentTarget.value)}
        />
      )}
      {hint && <p class="hint">{hint}</p>}
      <div class="choices">
        {shown.slice(0, 200).map((one) => (
          <label key={one} class="choice">
            <input
              type="checkbox"
              checked={chosen.includes(one)}
              onChange={(event) =>
                onChange(event.currentTarget.checked ? [...chosen, one] : chosen.filter((other) => other !== one))
              }
            />
            <span>{say(one)}</span>
          </label>
        ))}
        {!shown.length && <p class="hint">{t("filters.none")}</p>}
      </div>
      {chosen.length > 0 && (
        <button type="button" class="quiet" onClick={() => onChange([])}>
          {t("filters.any")}
        </button>
      )}
    </>
  );
}

function Label({ words }: { words: string }) {
  return (
    <>
      <span class="chip-words">{words}</span>
      <Icon name="down" />
    </>
  );
}

interface OneProps<Value> {
  name: string;
  value: Value;
  options: [Value, string][];
  onChange: (value: Value) => void;
}

function One<Value extends string | number>({ name, value, options, onChange }: OneProps<Value>) {
  return (
    <div class="choices">
      {options.map(([one, words]) => (
        <label key={one} class="choice">
          <input type="radio" name={name} checked={one === value} onChange={() => onChange(one)} />
          <span>{words}</span>
        </label>
      ))}
    </div>
  );
}

function When() {
  const now = route.value;
  const known = SINCE.find(([since]) => since === now.since);
  const words = known
    ? t(known[1])
    : now.since
      ? t("since.other", { length: now.since })
      : now.from || now.to
        ? t("since.span", {
            from: now.from ? format.moment(now.from) : "…",
            to: now.to ? format.moment(now.to) : t("since.now"),
          })
        : t("since.any");
  const options: [string, string][] = [["", t("since.any")], ...SINCE.map(([since, key]): [string, string] => [since, t(key)])];
  return (
    <Menu label={<Label words={words} />} name={`${t("time")}: ${words}`} active={Boolean(now.since || now.from || now.to)}>
      {() => (
        <>
          <One
            name="since"
            value={now.from || now.to ? "span" : now.since}
            options={options}
            onChange={(since) => narrow({ since, from: 0, to: 0 })}
          />
          <Instant label={t("since.from")} value={now.from} onChange={(from) => narrow({ from, since: "" })} />
          <Instant label={t("since.to")} value={now.to} onChange={(to) => narrow({ to, since: "" })} />
          {Boolean(now.from && now.to && now.from >= now.to) && <p class="hint wrong">{t("since.wrong")}</p>}
        </>
      )}
    </Menu>
  );
}

function Instant({ label, value, onChange }: { label: string; value: number; onChange: (ms: number) => void }) {
  return (
    <label class="instant">
      <span>{label}</span>
      <input
        type="datetime-local"
        value={format.localInput(value)}
        onChange={(event) => {
          const ms = event.currentTarget.value ? new Date(event.currentTarget.value).getTime() : 0;
          onChange(Number.isFinite(ms) && ms > 0 ? ms : 0);
        }}
      />
    </label>
  );
}

function Sure() {
  const { sure } = route.value;
  const say = (one: number): string => (one ? t("sure.least", { share: format.percent(one) }) : t("sure.any"));
  const values = [...new Set([0, ...SURE, sure])].toSorted((a, b) => a - b);
  return (
    <Menu label={<Label words={say(sure)} />} name={`${t("sure")}: ${say(sure)}`} active={sure > 0}>
      {(close) => (
        <One
          name="sure"
          value={sure}
          options={values.map((one): [number, string] => [one, say(one)])}
          onChange={(chosen) => {
            narrow({ sure: chosen });
            close();
          }}
        />
      )}
    </Menu>
  );
}

function Order() {
  const { order, all } = route.value;
  const say = (one: string): string => t(one === "time" ? "order.time" : "order.relevance");
  return (
    <Menu label={<Label words={say(order)} />} name={`${t("order")}: ${say(order)}`} active={order === "time" || all}>
      {() => (
        <>
          <One
            name="order"
            value={order}
            options={[
              ["relevance", say("relevance")],
              ["time", say("time")],
            ]}
            onChange={(chosen) => narrow({ order: chosen as Route["order"] })}
          />
          <label class="choice apart">
            <input type="checkbox" checked={all} onChange={(event) => narrow({ all: event.currentTarget.checked })} />
            <span>{t("order.all")}</span>
          </label>
        </>
      )}
    </Menu>
  );
}

function Saved() {
  return (
    <Menu label={<Label words={t("saved")} />} name={t("saved")}>
      {(close) => <SavedList onChosen={close} />}
    </Menu>
  );
}

/** A saved question in words: what is asked, and what narrows it. */
export function questionWords(key: string): string {
  const one = parse(`?${key}`);
  const what = one.q || t(one.like ? "asked.like" : one.part ? "asked.part" : "asked.picture");
  const narrowed = [...one.cameras, ...one.objects.map(kindName)];
  if (one.sure) narrowed.push(`≥ ${format.percent(one.sure)}`);
  if (one.since) narrowed.push(one.since);
  return narrowed.length ? `${what} · ${narrowed.join(", ")}` : what;
}

export function SavedList({ onChosen }: { onChosen?: () => void }) {
  return (
    <ul class="saved">
      {saved.value.map((key) => (
        <li key={key}>
          <button
            type="button"
            class="saved-question"
            aria-current={key === questionKey(route.value) ? "true" : undefined}
            onClick={() => {
              const page = route.value.page === "when" ? "when" : "ask";
              go({ ...parse(`?${key}`), page });
              onChosen?.();
            }}
          >
            {questionWords(key)}
          </button>
          <button
            type="button"
            class="quiet round"
            aria-label={t("saved.forget", { question: questionWords(key) })}
            title={t("saved.unsave")}
            onClick={() => toggleSaved(key)}
          >
            <Icon name="close" />
          </button>
        </li>
      ))}
    </ul>
  );
}
