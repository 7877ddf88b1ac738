// A moment, large: its picture, what was seen, its clip, its neighbours, and a box to ask by a part of it.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import * as api from "../api";
import * as format from "../format";
import { t } from "../i18n";
import { objectWords, plainClick } from "../parts/card";
import { PartChooser } from "../parts/choose";
import { Icon } from "../parts/icons";
import { Dialog } from "../parts/overlay";
import { MomentPicture, momentAlt, type Seen } from "../parts/picture";
import { boxToDraw } from "../pictures";
import { EMPTY, format as addressOf } from "../route";
import { answer, askFor, closeMoment, go, route } from "../state";
import type { Box, Hit } from "../types";
import { useClip, Player } from "./clip";

export function Detail() {
  const { moment, at } = route.value;
  const now = answer.value;
  const known = useRef(new Map<string, Hit>());
  const hits = now.status === "done" ? now.reply.hits : now.status === "loading" ? (now.before?.hits ?? []) : [];
  for (const hit of hits) known.current.set(hit.moment_id, hit);
  const hit = known.current.get(moment) ?? null;
  const here = hits.findIndex((one) => one.moment_id === moment);
  const step = (by: number): void => {
    const next = here < 0 ? undefined : hits[here + by];
    if (next) go({ moment: next.moment_id, at: next.at_ms }, { replace: true });
  };
  const card = useRef("");
  if (moment) card.current = moment;
  const cardOf = (): HTMLElement | null =>
    document.querySelector<HTMLElement>(`a.open[data-moment="${CSS.escape(card.current)}"]`);
  return (
    <Dialog title={hit ? hit.camera : t("moment")} kind="detail" onClose={closeMoment} then={cardOf}>
      <Inside
        key={`${moment}@${at}`}
        {...{ moment, at, hit }}
        onStep={step}
        before={here > 0}
        after={here >= 0 && here < hits.length - 1}
        onKnown={(hit) => known.current.set(hit.moment_id, hit)}
      />
    </Dialog>
  );
}

interface InsideProps {
  moment: string;
  at: number;
  hit: Hit | null;
  before: boolean;
  after: boolean;
  onStep: (by: number) => void;
  onKnown: (hit: Hit) => void;
}

function Inside({ moment, at, hit, before, after, onStep, onKnown }: InsideProps) {
  const [seen, setSeen] = useState<Seen | null>(null);
  const [choosing, setChoosing] = useState(false);
  const [playing, setPlaying] = useState(false);
  const clip = useClip(hit);
  const time = hit ? format.moment(hit.at_ms || hit.peak_ms) : "";
  const drawn = hit && seen ? boxToDraw(hit.box, at, seen.picture.at) : null;

  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.target instanceof HTMLVideoElement || choosing) return;
      if (event.key === "ArrowLeft") onStep(-1);
      else if (event.key === "ArrowRight") onStep(1);
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [onStep, choosing]);

  const askByPart = (box: Box): void => askFor({ part: { moment, at: seen?.picture.at ?? 0, box } });
  return (
    <div class="detail-inside">
      <div class="stage">
        {playing && clip ? (
          <Player clip={clip} onEnd={() => setPlaying(false)} />
        ) : (
          <MomentPicture
            moment={moment}
            at={at}
            box={choosing ? null : (hit?.box ?? null)}
            alt={hit ? momentAlt(hit, time) : t("moment")}
            eager
            onSeen={setSeen}
          >
            {choosing && seen && (
              <PartChooser
                width={seen.width}
                height={seen.height}
                first={drawn}
                onChosen={askByPart}
                onCancel={() => setChoosing(false)}
              />
            )}
            {clip && !choosing && (
              <button
                type="button"
                class="play"
                aria-label={t("play")}
                title={t("play")}
                onClick={() => setPlaying(true)}
              >
                <Icon name="play" filled />
              </button>
            )}
          </MomentPicture>
        )}
        {before && !choosing && (
          <button
            type="button"
            class="round step left"
            aria-label={t("before")}
            title={t("before")}
            onClick={() => onStep(-1)}
          >
            <Icon name="left" />
          </button>
        )}
        {after && !choosing && (
          <button
            type="button"
            class="round step right"
            aria-label={t("after")}
            title={t("after")}
            onClick={() => onStep(1)}
          >
            <Icon name="right" />
          </button>
        )}
      </div>
      <div class="beside">
        {hit && <Facts hit={hit} />}
        {hit && seen && hit.at_ms !== seen.picture.at && <p class="hint">{t("picture.other")}</p>}
        <div class="actions">
          <button type="button" class="button" onClick={() => askFor({ like: moment })}>
            <Icon name="like" />
            {t("like")}
          </button>
          <button
            type="button"
            class="button"
            disabled={!seen || playing}
            aria-pressed={choosing}
            onClick={() => setChoosing(!choosing)}
          >
            <Icon name="part" />
            {t("part")}
          </button>
          <CopyLink />
        </div>
        {hit && <Neighbours hit={hit} onKnown={onKnown} />}
      </div>
    </div>
  );
}

function Facts({ hit }: { hit: Hit }) {
  const sure = answer.value.status === "done" ? hit.confidence >= answer.value.reply.threshold : true;
  const seen = objectWords(hit);
  return (
    <dl class="facts">
      <div>
        <dt>{t("sure")}</dt>
        <dd>
          <strong>{format.percent(hit.confidence)}</strong>{" "}
          {!sure && <span class="hint">{t("sure.not")}</span>}
        </dd>
      </div>
      <div>
        <dt>{t("time")}</dt>
        <dd>
          <time dateTime={new Date(hit.at_ms || hit.peak_ms).toISOString()}>
            {format.full(hit.at_ms || hit.peak_ms)}
          </time>
        </dd>
      </div>
      <div>
        <dt>{t("span")}</dt>
        <dd>
          {format.span(hit.start_ms, hit.end_ms)}
          {hit.end_ms - hit.start_ms >= 1000 && ` · ${format.lasts(hit.end_ms - hit.start_ms)}`}
          {!hit.closed && ` · ${t("going_on")}`}
          {hit.moments > 1 && <span class="hint"> {t("joined", { n: hit.moments })}</span>}
        </dd>
      </div>
      {seen && (
        <div>
          <dt>{t("objects")}</dt>
          <dd>{seen}</dd>
        </div>
      )}
    </dl>
  );
}

function CopyLink() {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(window.location.href);
      setCopied(true);
    } catch {
      // The address bar has it.
    }
  };
  return (
    <button type="button" class="button" onClick={() => void copy()}>
      <Icon name={copied ? "check" : "link"} />
      <span role="status">{copied ? t("copied") : t("link")}</span>
    </button>
  );
}

const AROUND_MS = 120_000;
const MOST_NEIGHBOURS = 12;

/** What the same camera saw shortly before and after. */
function Neighbours({ hit, onKnown }: { hit: Hit; onKnown: (hit: Hit) => void }) {
  const [around, setAround] = useState<Hit[]>([]);
  useEffect(() => {
    const stop = new AbortController();
    const near = {
      ...EMPTY,
      like: hit.moment_id,
      cameras: [hit.camera],
      from: Math.max(1, hit.start_ms - AROUND_MS),
      to: hit.end_ms + AROUND_MS,
      order: "time" as const,
      all: true,
      limit: 200,
    };
    api.search(near, null, stop.signal).then(
      (reply) => setAround(reply.hits),
      () => undefined, // neighbours are an extra: the moment itself stands without them
    );
    return () => stop.abort();
  }, [hit.moment_id]);
  const shown = useMemo(() => nearest(around, hit), [around, hit]);
  if (!shown.length) return null;
  return (
    <section class="neighbours">
      <h3>{t("neighbours", { camera: hit.camera })}</h3>
      <ol>
        {shown.map((one) => (
          <li key={one.moment_id}>
            <a
              href={addressOf({ ...route.value, moment: one.moment_id, at: one.at_ms })}
              onClick={(event) => {
                if (!plainClick(event)) return;
                event.preventDefault();
                onKnown(one);
                go({ moment: one.moment_id, at: one.at_ms }, { replace: true });
              }}
            >
              <MomentPicture moment={one.moment_id} at={one.at_ms} alt="" />
              <time dateTime={new Date(one.peak_ms).toISOString()}>
                {format.clock(one.at_ms || one.peak_ms)}
              </time>
            </a>
          </li>
        ))}
      </ol>
    </section>
  );
}

function nearest(around: Hit[], hit: Hit): Hit[] {
  const far = (one: Hit): number => Math.abs(one.peak_ms - hit.peak_ms);
  return around
    .toSorted((a, b) => far(a) - far(b))
    .slice(0, MOST_NEIGHBOURS)
    .sort((a, b) => a.peak_ms - b.peak_ms);
}
