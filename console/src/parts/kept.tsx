// What the lists of System are made of: what is read, as a table, and asked about before it is ended.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Problem } from "../api";
import * as format from "../format";
import { t, type Key } from "../i18n";
import { Dialog } from "./overlay";
import { Words } from "./told";

/** Something that is read when it is shown, and again when it was changed. */
export function useRead<T>(readIt: () => Promise<T>): [T | null, Problem | null, () => void, (error: unknown) => void] {
  const [found, setFound] = useState<T | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const failed = (error: unknown): void =>
    setProblem(error instanceof Problem ? error : new Problem(-1, "", String(error), ""));
  const look = (): void => {
    setProblem(null);
    readIt().then(setFound, failed);
  };
  useEffect(look, []);
  return [found, problem, look, failed];
}

export const day = (ms: number): string => (ms ? format.moment(ms) : t("never"));

export function Table({ heads, name, children }: { heads: Key[]; name: string; children: ComponentChildren }) {
  return (
    <div class="scroll" role="region" tabIndex={0} aria-label={name}>
      <table>
        <thead>
          <tr>
            {heads.map((head) => (
              <th key={head} scope="col">
                {t(head)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

interface SureProps {
  title: string;
  words: string;
  yes: string;
  onYes: () => void;
  onClose: () => void;
}

export function Sure({ title, words, yes, onYes, onClose }: SureProps) {
  return (
    <Dialog title={title} kind="small" onClose={onClose}>
      <p>
        <Words>{words}</Words>
      </p>
      <div class="form-end">
        <span class="spring" />
        <button type="button" class="button" autofocus onClick={onClose}>
          {t("cancel")}
        </button>
        <button type="button" class="button main danger" onClick={onYes}>
          {yes}
        </button>
      </div>
    </Dialog>
  );
}
