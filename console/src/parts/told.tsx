// What the page says when there is something to say: errors, coverage, commands to copy.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { token, tokenWanted, type Problem } from "../api";
import { lookedAt, sentences } from "../coverage";
import { t } from "../i18n";
import { again, PICTURE_GONE, refresh } from "../state";
import type { Coverage } from "../types";
import { Icon } from "./icons";

/** A sentence of the service: it begins with a capital letter, and what stands in backticks is code. */
export function Words({ children }: { children: string }) {
  const text = children.charAt(0).toUpperCase() + children.slice(1);
  return <>{text.split("`").map((part, at) => (at % 2 ? <code key={at}>{part}</code> : part))}</>;
}

/** A problem in words: what is wrong, what to do, and a button that tries again. */
export function ProblemTold({ problem, onRetry = refresh }: { problem: Problem; onRetry?: () => void }) {
  const gone = problem.title === PICTURE_GONE;
  const denied = problem.status === 401;
  const title = gone
    ? t("problem.picture_gone")
    : problem.offline
     ? t("problem.offline")
     : denied
      ? t("problem.denied")
      : problem.detail || t("problem.other", { status: problem.status });
  const todo = gone
    ? t("problem.picture_gone_todo")
    : problem.offline
     ? t("problem.offline_todo")
     : denied
      ? t(token.value ? "problem.denied_other" : "problem.denied_todo")
      : problem.todo || (problem.busy ? t("problem.busy_todo") : "");
  return (
    <div class="told problem" role="alert">
      <Icon name="warning" />
      <div>
        <p class="told-title">
          <Words>{title}</Words>
        </p>
        {todo && (
          <p>
            <Words>{todo}</Words>
          </p>
        )}
        {!gone && (
          <button
            type="button"
            class="button"
            onClick={() => (denied ? (tokenWanted.value = true) : onRetry())}
          >
            {denied ? t("token.give") : t("again")}
          </button>
        )}
      </div>
    </div>
  );
}

export function CoverageTold({ coverage, until, at }: { coverage: Coverage; until: number; at: number }) {
  const said = sentences(coverage);
  const looked = lookedAt(coverage, until, at);
  return (
    <>
      {looked && (
        <span class={looked.fresh ? "looked" : "looked behind"}>
          <span class="dot" aria-hidden="true" />
          {looked.words}
        </span>
      )}
      {said.length === 1 && (
        <span class="partial">
          <Icon name="warning" />
          {said[0]}
        </span>
      )}
      {said.length > 1 && (
        <details class="partial" key={again.value}>
          <summary>
            <Icon name="warning" />
            {t("coverage.some", { n: said.length })}
          </summary>
          <ul>
            {said.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

/** A command to be copied. */
export function Command({ children }: { children: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(children);
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      // The clipboard needs https or loopback. The text can still be marked.
    }
  };
  return (
    <div class="command">
      <code tabIndex={0}>{children}</code>
      <button
        type="button"
        class="quiet round"
        aria-label={t("copy")}
        title={t("copy")}
        onClick={() => void copy()}
      >
        <Icon name={copied ? "check" : "copy"} />
      </button>
      <span class="unseen" role="status">
        {copied ? t("copied") : ""}
      </span>
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="told empty">
      <p class="told-title">{title}</p>
      {children}
    </div>
  );
}
