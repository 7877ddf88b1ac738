// Ask: one field, and what was found as a wall of pictures.

import { useEffect, useRef } from "preact/hooks";
import * as format from "../format";
import { t } from "../i18n";
import { Chips, SavedList } from "../parts/chips";
import { HitCard } from "../parts/card";
import { SearchBar } from "../parts/searchbar";
import { CoverageTold, Empty, ProblemTold } from "../parts/told";
import { asks, filters, MOST } from "../route";
import { answer, askFor, house, houseProblem, more, route, saved } from "../state";
import type { Hit, Reply } from "../types";
import { FirstStart } from "./first";

const SKELETONS = 12;

export function AskPage() {
  if (house.value && !house.value.cameras.length && !asks(route.value)) return <FirstStart />;
  return asks(route.value) ? <Results /> : <Home />;
}

function Home() {
  const watching = house.value?.cameras.filter((one) => one.watching).length ?? 0;
  return (
    <div class="home">
      <h1 class="wordmark">Watchword</h1>
      <SearchBar large />
      <Chips />
      {houseProblem.value && <ProblemTold problem={houseProblem.value} />}
      {saved.value.length > 0 && (
        <section class="home-saved">
          <h2>{t("saved")}</h2>
          <SavedList />
        </section>
      )}
      {house.value && (
        <p class="home-hint">
          {t("home.watching", { n: watching })}{" "}
          {t("home.try")}{" "}
          {(["home.example1", "home.example2", "home.example3"] as const).map((key, at) => (
            <>
              {at > 0 && " · "}
              <button type="button" class="link" onClick={() => askFor({ q: t(key) })}>
                {t(key)}
              </button>
            </>
          ))}
        </p>
      )}
    </div>
  );
}

function Results() {
  const now = answer.value;
  const reply = now.status === "done" ? now.reply : now.status === "loading" ? now.before : null;
  return (
    <div class="results">
      <h1 class="unseen">{t("ask.results")}</h1>
      <SearchBar />
      <Chips />
      {now.status === "failed" && <ProblemTold problem={now.problem} />}
      {now.status === "loading" && !reply && <Skeletons />}
      {reply && (
        <div class={now.status === "loading" ? "answer stale" : "answer"} aria-busy={now.status === "loading"}>
          <p class="summary">
            <Summary reply={reply} />
            {now.status === "done" && (
              <>
                <CoverageTold coverage={reply.coverage} until={now.route.to} at={now.at} />
                <span class="took">{t("took", { ms: format.number(Math.max(1, Math.round(reply.timing.total_ms))) })}</span>
              </>
            )}
          </p>
          <Walls reply={reply} />
        </div>
      )}
      <p class="unseen" role="status">
        {now.status === "done" ? spoken(now.reply) : now.status === "loading" ? t("loading") : ""}
      </p>
    </div>
  );
}

const sureOf = (reply: Reply): Hit[] => reply.hits.filter((hit) => hit.confidence >= reply.threshold);
const weakOf = (reply: Reply): Hit[] => reply.hits.filter((hit) => hit.confidence < reply.threshold);

function spoken(reply: Reply): string {
  return sureOf(reply).length ? t("answers", { n: sureOf(reply).length, shown: sureOf(reply).length }) : t("nothing_sure");
}

function Summary({ reply }: { reply: Reply }) {
  const sure = sureOf(reply).length;
  if (!sure) return null;
  const more = sure === reply.hits.length && sure === route.value.limit;
  return <strong>{t("answers", { n: sure, shown: more ? `${sure}+` : sure })}</strong>;
}

function Walls({ reply }: { reply: Reply }) {
  const own = useRef<HTMLDivElement>(null);
  useArrows(own);
  const sure = sureOf(reply);
  const weak = weakOf(reply);
  if (!reply.hits.length) {
    return (
      <Empty title={t("nothing")}>
        <p>{filters(route.value) ? t("nothing.filtered") : t("nothing.todo")}</p>
      </Empty>
    );
  }
  const canGrow = reply.hits.length >= route.value.limit && route.value.limit < MOST;
  return (
    <div ref={own}>
      {sure.length > 0 && <Wall hits={sure} />}
      {weak.length > 0 && (
        <>
          {sure.length > 0 ? (
            <h2 class="less-sure">{t("less_sure", { n: weak.length })}</h2>
          ) : (
            <div class="nothing-sure">
              <h2>{t("nothing_sure")}</h2>
              <p>{t("nothing_sure.nearest")}</p>
            </div>
          )}
          <Wall hits={weak} weak />
        </>
      )}
      {canGrow && (
        <div class="more">
          <button type="button" class="button" onClick={more}>
            {t("more")}
          </button>
        </div>
      )}
    </div>
  );
}

function Wall({ hits, weak = false }: { hits: Hit[]; weak?: boolean }) {
  return (
    <ol class={weak ? "wall weak" : "wall"}>
      {hits.map((hit) => (
        <HitCard key={hit.moment_id} hit={hit} weak={weak} />
      ))}
    </ol>
  );
}

function Skeletons() {
  return (
    <ol class="wall" aria-hidden="true">
      {Array.from({ length: SKELETONS }, (_, at) => (
        <li key={at} class="card skeleton">
          <div class="picture waiting" />
          <div class="bar" />
        </li>
      ))}
    </ol>
  );
}

/** Arrows walk over the wall as it lies on the screen, whatever its number of columns. */
function useArrows(own: { current: HTMLElement | null }): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const wall = own.current;
      if (!wall || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || route.peek().moment) return;
      if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].includes(event.key)) return;
      const at = document.activeElement;
      if (at instanceof HTMLInputElement || at?.closest(".panel, dialog")) return;
      const cards = [...wall.querySelectorAll<HTMLElement>("a.open")];
      const here = cards.findIndex((card) => card.closest("li")!.contains(at));
      const next = here < 0 ? 0 : neighbour(cards, here, event.key);
      if (next === undefined || !cards[next]) return;
      event.preventDefault();
      cards[next].focus({ preventScroll: true });
      cards[next].closest("li")!.scrollIntoView({ block: "nearest" });
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}

function neighbour(cards: HTMLElement[], here: number, key: string): number | undefined {
  if (key === "ArrowLeft") return here - 1;
  if (key === "ArrowRight") return here + 1;
  const places = cards.map((card) => card.getBoundingClientRect());
  const from = places[here]!;
  const beyond = places
    .map((place, at) => ({ at, down: place.top - from.top, aside: Math.abs(place.left - from.left) }))
    .filter(({ down }) => (key === "ArrowDown" ? down > 4 : down < -4))
    .sort((a, b) => Math.abs(a.down) - Math.abs(b.down) || a.aside - b.aside);
  const row = beyond.filter((one) => Math.abs(one.down - (beyond[0]?.down ?? 0)) < 4);
  return row.sort((a, b) => a.aside - b.aside)[0]?.at;
}
