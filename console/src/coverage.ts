// What an answer is based on, as sentences.

import * as format from "./format";
import { t, type Key } from "./i18n";
import type { Coverage, Gap } from "./types";

/** Cameras lag by some seconds always: what is fresher than this is up to date. */
const FRESH_MS = 60_000;
const MOST_SAID = 12;

const REASONS: Record<string, Key> = {
  away: "gap.away",
  shed: "gap.shed",
  expired: "gap.expired",
  lost: "gap.lost",
  waiting: "gap.waiting",
};

/** One sentence for each reason why something could not be searched; empty when all was. */
export function sentences(coverage: Coverage): string[] {
  const said = joined(coverage.gaps).map(gapSentence);
  const left = coverage.gaps_in_all - coverage.gaps.length;
  if (said.length > MOST_SAID || left > 0) {
    const beyond = Math.max(0, said.length - MOST_SAID) + Math.max(0, left);
    said.length = Math.min(said.length, MOST_SAID);
    said.push(t("coverage.more", { n: beyond }));
  }
  for (const part of coverage.unsearched) {
    const key = part.cold ? "coverage.cold" : "coverage.unsearched";
    said.push(t(key, { span: format.span(part.start_ms, part.end_ms) }));
  }
  if (!coverage.unsearched.length && coverage.shards_missing.length) {
    said.push(t("coverage.shards", { n: coverage.shards_missing.length }));
  }
  if (coverage.spaces_unsearched.length) said.push(t("coverage.spaces", { n: coverage.spaces_unsearched.length }));
  if (coverage.coverage_unknown) said.push(t("coverage.unknown"));
  if (!said.length && coverage.partial) said.push(t("coverage.partial"));
  return said;
}

/** Gaps of one camera and reason that touch are one to a reader. */
export function joined(gaps: Gap[]): Gap[] {
  const whole: Gap[] = [];
  for (const gap of gaps.toSorted((a, b) => a.start_ms - b.start_ms)) {
    const before = whole.findLast((one) => one.camera === gap.camera && one.reason === gap.reason);
    if (before && gap.start_ms <= before.end_ms + 1000) {
      before.end_ms = Math.max(before.end_ms, gap.end_ms);
      before.frames += gap.frames;
    } else {
      whole.push({ ...gap });
    }
  }
  return whole;
}

export function gapSentence(gap: Gap): string {
  const camera = gap.camera || t("gap.any");
  return t(REASONS[gap.reason] ?? "gap.other", {
    camera,
    span: format.span(gap.start_ms, gap.end_ms),
    reason: gap.reason,
  });
}

export interface LookedAt {
  /** Everything asked for was looked at up to now, but for some seconds. */
  fresh: boolean;
  words: string;
}

/** Up to when the asked cameras were looked at; null when it is not known. */
export function lookedAt(coverage: Coverage, until: number, now = Date.now()): LookedAt | null {
  const marks = coverage.watermarks;
  if (!marks.length) return null;
  const behind = marks.reduce((worst, one) => (one.looked_ms < worst.looked_ms ? one : worst));
  const looked = behind.looked_ms;
  const end = until ? Math.min(until, now) : now;
  if (looked >= end - FRESH_MS)
    return { fresh: true, words: t("looked.fresh", { time: format.moment(looked, now) }) };
  if (!looked) return { fresh: false, words: t("looked.never", { camera: behind.camera }) };
  if (marks.length === 1) return { fresh: false, words: t("looked.one", { time: format.moment(looked, now) }) };
  return { fresh: false, words: t("looked.behind", { camera: behind.camera, time: format.moment(looked, now) }) };
}
