// When: the answers of a question over time, a row for each camera.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { gapSentence, joined } from "../coverage";
import * as format from "../format";
import { t } from "../i18n";
import { Chips } from "../parts/chips";
import { Icon } from "../parts/icons";
import { MomentPicture } from "../parts/picture";
import { SearchBar } from "../parts/searchbar";
import { CoverageTold, Empty, ProblemTold } from "../parts/told";
import { TimeRows } from "../parts/timerows";
import { asks, length, type Route } from "../route";
import { answer, house, openMoment, route } from "../state";
import { nearest, panned, rowsOf, timeAt, wholeView, zoomed, type Row, type View } from "../timeline";
import type { Gap, Hit, Reply } from "../types";

export function WhenPage() {
  const now = answer.value;
  const reply = now.status === "done" ? now.reply : now.status === "loading" ? now.before : null;
  return (
    <div class="results">
      <h1 class="unseen">{t("when")}</h1>
      <SearchBar />
      <Chips />
      {!asks(route.value) && (
        <Empty title={t("when.ask")}>
          <p>{t("when.ask_todo")}</p>
        </Empty>
      )}
      {now.status === "failed" && <ProblemTold problem={now.problem} />}
      {now.status === "loading" && !reply && <div class="timeline waiting" aria-hidden="true" />}
      {reply && (
        <div class={now.status === "loading" ? "answer stale" : "answer"} aria-busy={now.status === "loading"}>
          {now.status === "done" && (
            <p class="summary">
              <Count n={reply.hits.filter((hit) => hit.confidence >= reply.threshold).length} />
              <CoverageTold coverage={reply.coverage} until={now.route.to} at={now.at} />
            </p>
          )}
          <Timeline reply={reply} asked={now.status === "done" ? now.route : route.value} at={now.status === "done" ? now.at : Date.now()} />
        </div>
      )}
    </div>
  );
}

function Count({ n }: { n: number }) {
  return <strong>{t("answers", { n, shown: n })}</strong>;
}

/** What the pointer or the keys are at. */
interface Spot {
  row: Row;
  ms: number;
  hit: Hit | null;
  gap: Gap | null;
}

const REACH_PX = 14;
const ZOOM = 1.6;

function Timeline({ reply, asked, at }: { reply: Reply; asked: Route; at: number }) {
  const whole = useMemo(
    () => wholeView(reply, asked.since ? at - length(asked.since) : asked.from, asked.since ? at : asked.to, at),
    [reply],
  );
  const rows = useMemo(
    () => rowsOf({ ...reply, coverage: { ...reply.coverage, gaps: joined(reply.coverage.gaps) } }, asked.cameras, (house.value?.cameras ?? []).map((one) => one.name)),
    [reply, house.value],
  );
  const [view, setView] = useState<View>(whole);
  const [width, setWidth] = useState(0);
  const [spot, setSpot] = useState<Spot | null>(null);
  const own = useRef<HTMLDivElement>(null);
  const tracks = useRef<HTMLDivElement>(null);
  useEffect(() => {
    setView(whole);
    setSpot(null);
  }, [whole]);
  useEffect(() => {
    const watch = new ResizeObserver(([one]) => setWidth(one!.contentRect.width));
    watch.observe(tracks.current!);
    return () => watch.disconnect();
  }, []);
  usePointers(tracks, { view, setView, whole, width, onOpen: (x, y) => open(spotAt(x, y)) });

  const msPerPx = (view.end - view.start) / Math.max(1, width);
  const spotAt = (x: number, y: number): Spot | null => {
    const place = tracks.current!.getBoundingClientRect();
    const ms = timeAt(x - place.left, view, width);
    const name = document.elementsFromPoint(x, y).map((one) => (one as HTMLElement | SVGElement).dataset["camera"]).find(Boolean);
    const row = rows.find((one) => one.camera === name);
    if (!row || x < place.left || x > place.right) return null;
    return { row, ms, hit: nearest(row, ms, REACH_PX * msPerPx), gap: row.gaps.find((gap) => gap.start_ms <= ms && ms <= gap.end_ms) ?? null };
  };
  const open = (at: Spot | null): void => {
    if (at?.hit) openMoment(at.hit.moment_id, at.hit.at_ms);
  };
  const middle = (view.start + view.end) / 2;
  const walk = (by: number): void => {
    const all = rows.flatMap((row) => row.hits.map((hit) => ({ row, hit }))).sort((a, b) => a.hit.peak_ms - b.hit.peak_ms || a.row.camera.localeCompare(b.row.camera));
    const here = spot?.hit ? all.findIndex((one) => one.hit === spot.hit) : by > 0 ? -1 : all.length;
    const next = all[Math.min(all.length - 1, Math.max(0, here + by))];
    if (!next) return;
    setSpot({ row: next.row, ms: next.hit.peak_ms, hit: next.hit, gap: null });
    if (next.hit.peak_ms < view.start || next.hit.peak_ms > view.end) setView(panned(view, next.hit.peak_ms - middle, whole));
  };
  const onKey = (event: KeyboardEvent): void => {
    const keys: Record<string, () => void> = {
      ArrowLeft: () => walk(-1),
      ArrowRight: () => walk(1),
      "+": () => setView(zoomed(view, ZOOM, spot?.ms ?? middle, whole)),
      "=": () => setView(zoomed(view, ZOOM, spot?.ms ?? middle, whole)),
      "-": () => setView(zoomed(view, 1 / ZOOM, spot?.ms ?? middle, whole)),
      "0": () => setView(whole),
      Enter: () => open(spot),
    };
    const does = keys[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    does();
  };
  if (!rows.length) return <Empty title={t("nothing")} />;
  return (
    <div class="timeline" ref={own}>
      <div class="zoom" role="group" aria-label={t("when.zoom")}>
        <span class="view-span">{format.span(view.start, view.end)}</span>
        <ZoomButton icon="minus" name={t("when.out")} onClick={() => setView(zoomed(view, 1 / ZOOM, middle, whole))} />
        <ZoomButton icon="plus" name={t("when.in")} onClick={() => setView(zoomed(view, ZOOM, middle, whole))} />
        <ZoomButton icon="all" name={t("when.all")} onClick={() => setView(whole)} />
      </div>
      <div
        class="tracks-area"
        tabIndex={0}
        role="application"
        aria-label={t("when.keys")}
        onKeyDown={onKey}
        onPointerMove={(event) => event.pointerType !== "touch" && setSpot(spotAt(event.clientX, event.clientY))}
        onPointerLeave={() => setSpot(null)}
      >
        <TimeRows {...{ rows, view, width, reply }} cursor={spot?.ms ?? null} chosen={spot?.hit ?? null} tracks={tracks} />
        {spot && <Preview spot={spot} view={view} width={width} area={own.current} tracks={tracks.current} />}
      </div>
      <p class="hint legend">
        <span class="swatch sure" /> {t("when.legend_sure")} <span class="swatch weak" /> {t("when.legend_weak")}{" "}
        <span class="swatch gap" /> {t("when.legend_gap")}
      </p>
      <p class="unseen" role="status">
        {spot?.hit ? `${spot.row.camera}, ${format.moment(spot.hit.peak_ms)}, ${format.percent(spot.hit.confidence)}` : ""}
      </p>
    </div>
  );
}

function ZoomButton({ icon, name, onClick }: { icon: "minus" | "plus" | "all"; name: string; onClick: () => void }) {
  return (
    <button type="button" class="quiet round" aria-label={name} title={name} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

interface Pointers {
  view: View;
  setView: (view: View) => void;
  whole: View;
  width: number;
  onOpen: (x: number, y: number) => void;
}

const STILL_PX = 5;

/** Drag to move, pinch or Ctrl and the wheel to zoom, a click to open. */
function usePointers(tracks: { current: HTMLElement | null }, now: Pointers): void {
  const latest = useRef(now);
  latest.current = now;
  useEffect(() => {
    const on = tracks.current!;
    const down = new Map<number, number>();
    let moved = 0;
    const time = (x: number): number => timeAt(x - on.getBoundingClientRect().left, latest.current.view, latest.current.width);
    const onDown = (event: PointerEvent): void => {
      if (event.button !== 0) return;
      if (!down.size) moved = 0;
      down.set(event.pointerId, event.clientX);
    };
    const onMove = (event: PointerEvent): void => {
      const before = down.get(event.pointerId);
      if (before === undefined) return;
      const { view, setView, whole, width } = latest.current;
      const by = event.clientX - before;
      moved += Math.abs(by);
      if (moved > STILL_PX && !on.hasPointerCapture(event.pointerId)) on.setPointerCapture(event.pointerId);
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      down.set(event.pointerId, event.clientX);
      if (moved <= STILL_PX) return;
      if (other === undefined) setView(panned(view, (-by / Math.max(1, width)) * (view.end - view.start), whole));
      else setView(zoomed(view, Math.abs(event.clientX - other) / Math.max(1, Math.abs(before - other)), time(other), whole));
    };
    const onUp = (event: PointerEvent): void => {
      if (down.delete(event.pointerId) && event.type === "pointerup" && moved <= STILL_PX) {
        latest.current.onOpen(event.clientX, event.clientY);
      }
    };
    const onWheel = (event: WheelEvent): void => {
      const { view, setView, whole, width } = latest.current;
      if (event.ctrlKey || event.metaKey) setView(zoomed(view, Math.exp(-event.deltaY / 200), time(event.clientX), whole));
      else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) setView(panned(view, (event.deltaX / Math.max(1, width)) * (view.end - view.start), whole));
      else return; // the page scrolls
      event.preventDefault();
    };
    on.addEventListener("pointerdown", onDown);
    on.addEventListener("pointermove", onMove);
    on.addEventListener("pointerup", onUp);
    on.addEventListener("pointercancel", onUp);
    on.addEventListener("wheel", onWheel, { passive: false });
    return () => {
      on.removeEventListener("pointerdown", onDown);
      on.removeEventListener("pointermove", onMove);
      on.removeEventListener("pointerup", onUp);
      on.removeEventListener("pointercancel", onUp);
      on.removeEventListener("wheel", onWheel);
    };
  }, []);
}

const PREVIEW_PX = 220;

interface PreviewProps {
  spot: Spot;
  view: View;
  width: number;
  area: HTMLElement | null;
  tracks: HTMLElement | null;
}

/** The picture of what the pointer is at, above it. */
function Preview({ spot, view, width, area, tracks }: PreviewProps) {
  if (!area || !tracks) return null;
  const edge = tracks.getBoundingClientRect().left - area.getBoundingClientRect().left;
  const x = ((spot.ms - view.start) / (view.end - view.start)) * width;
  const row = tracks.querySelector<SVGElement>(`[data-camera="${CSS.escape(spot.row.camera)}"]`);
  const above = row ? row.getBoundingClientRect().top - area.getBoundingClientRect().top : 0;
  const left = Math.min(Math.max(0, edge + x - PREVIEW_PX / 2), Math.max(0, area.clientWidth - PREVIEW_PX));
  return (
    <div class="preview" style={{ left: `${left}px`, top: `${above}px`, width: `${PREVIEW_PX}px` }} aria-hidden="true">
      {spot.hit && <MomentPicture moment={spot.hit.moment_id} at={spot.hit.at_ms} box={spot.hit.box} alt="" eager />}
      <span class="line">
        <span>{format.moment(spot.hit ? spot.hit.at_ms || spot.hit.peak_ms : spot.ms)}</span>
        {spot.hit && <span class="sure">{format.percent(spot.hit.confidence)}</span>}
      </span>
      {!spot.hit && spot.gap && <span class="small">{gapSentence(spot.gap)}</span>}
    </div>
  );
}
