// Words come from messages/*.json. A new language is a new file there and a line here.

import { computed, signal } from "@preact/signals";
import { recall, remember } from "./keep";
import de from "./messages/de.json";
import en from "./messages/en.json";
import zh from "./messages/zh.json";

export type Key = keyof typeof en;
type Message = string | { one?: string; other: string };

const MESSAGES: Record<string, Record<string, Message>> = { en, de, zh };
export const LANGUAGES: [string, string][] = [
  ["en", "English"],
  ["de", "Deutsch"],
  ["zh", "中文"],
];

function preferred(): string {
  const kept = recall("language");
  if (kept && kept in MESSAGES) return kept;
  for (const tag of navigator.languages) {
    const language = tag.slice(0, 2).toLowerCase();
    if (language in MESSAGES) return language;
  }
  return "en";
}

export const language = signal(preferred());

/** For Intl: the reader's own region where it speaks the chosen language, so that clocks look as at home. */
export const locale = computed(
  () => navigator.languages.find((tag) => tag.toLowerCase().startsWith(language.value)) ?? language.value,
);
const plural = computed(() => new Intl.PluralRules(language.value));

export function setLanguage(chosen: string): void {
  language.value = chosen;
  remember("language", chosen);
}

/** The message in the reader's language. `n` chooses between one and several. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  const message = MESSAGES[language.value]?.[key] ?? en[key];
  return filled(message, values);
}

function filled(message: Message, values: Record<string, string | number>): string {
  const words =
    typeof message === "string"
      ? message
      : ((plural.value.select(Number(values["n"] ?? 0)) === "one" ? message.one : undefined) ?? message.other);
  return words.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** The name of a kind of object, such as "person"; unknown kinds keep the detector's own name. */
export function kindName(kind: string): string {
  const message = MESSAGES[language.value]?.[`kind.${kind}`];
  return typeof message === "string" ? message : kind;
}
