// System: whether questions can be answered now, and how fresh the answers are.

import { useState } from "preact/hooks";
import * as api from "../api";
import * as format from "../format";
import { sentences } from "../coverage";
import { t } from "../i18n";
import { useEvery } from "../parts/every";
import { Icon } from "../parts/icons";
import { ProblemTold, Words } from "../parts/told";
import { lookAtRecent, recent } from "../recent";
import { house, lookAtHouse, refresh } from "../state";
import type { Health } from "../types";
import { Keeping } from "./keeping";
import { FRESH_MS } from "./live";

const LOOK_EVERY_MS = 10_000;

export function SystemPage() {
  const [health, setHealth] = useState<Health | null>(null);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const look = (signal: AbortSignal): void => {
    api.health(signal).then(
      (said) => {
        setHealth(said);
        setProblem(null);
      },
      (error: unknown) => {
        if (!signal.aborted && error instanceof api.Problem) setProblem(error);
      },
    );
    void lookAtHouse();
    void lookAtRecent(signal);
  };
  useEvery(LOOK_EVERY_MS, look);
  const now = recent.value;
  return (
    <div class="page">
      <h1>{t("system")}</h1>
      {problem && (
        <ProblemTold
          problem={problem}
          onRetry={() => {
            refresh();
            look(new AbortController().signal);
          }}
        />
      )}
      {health && !problem && (
        <div class={health.ready ? "verdict well" : "verdict ill"} role="status">
          <Icon name={health.ready ? "check" : "warning"} />
          <div>
            <p class="told-title">{t(health.ready ? "system.ready" : "system.not_ready")}</p>
            {health.todo && (
              <p>
                <Words>{health.todo}</Words>
              </p>
            )}
          </div>
        </div>
      )}
      <dl class="facts wide">
        <Fact name={t("system.version")} value={health?.version ?? "–"} />
        <Fact
          name={t("cameras")}
          value={
            house.value
              ? t("system.cameras", {
                 watching: house.value.cameras.filter((one) => one.watching).length,
                 all: house.value.cameras.length,
               })
              : "–"
          }
        />
        <Fact
          name={t("system.took")}
          value={now ? t("took", { ms: Math.max(1, Math.round(now.reply.timing.total_ms)) }) : "–"}
        />
        <Fact name={t("system.space")} value={now?.reply.space ?? "–"} code />
      </dl>
      {now && <Freshness />}
      <Keeping />
      <section>
        <h2>{t("system.links")}</h2>
        <ul class="plain">
          <li>
            <a href={api.address("openapi.json")}>{t("system.openapi")}</a>
          </li>
          <li>
            <a href={api.address("health")}>{t("system.health")}</a>
          </li>
        </ul>
      </section>
    </div>
  );
}

function Fact({ name, value, code = false }: { name: string; value: string; code?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{code ? <code>{value}</code> : value}</dd>
    </div>
  );
}

function Freshness() {
  const { reply, at } = recent.value!;
  const marks = reply.coverage.watermarks;
  const gaps = sentences(reply.coverage);
  return (
    <section>
      <h2>{t("system.fresh")}</h2>
      {marks.length > 0 && (
        <div class="scroll" role="region" tabIndex={0} aria-label={t("system.fresh")}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("camera")}</th>
                <th scope="col">{t("system.looked")}</th>
                <th scope="col">{t("system.behind")}</th>
              </tr>
            </thead>
            <tbody>
              {marks.map((mark) => (
                <tr key={mark.camera}>
                  <th scope="row">{mark.camera}</th>
                  <td>{mark.looked_ms ? format.moment(mark.looked_ms) : t("never")}</td>
                  <td>
                    <span class={at - mark.looked_ms < FRESH_MS ? "state well" : "state behind"}>
                      <span class="dot" aria-hidden="true" />
                      {mark.looked_ms ? format.lasts(Math.max(0, at - mark.looked_ms)) : "–"}
                    </span>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {gaps.length > 0 && (
        <>
          <h3>{t("system.gaps")}</h3>
          <ul class="plain">
            {gaps.map((one) => (
              <li key={one}>{one}</li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}
