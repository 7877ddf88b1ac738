// The tokens: who may ask, and of which cameras.

import { useState } from "preact/hooks";
import { Problem } from "../api";
import { t } from "../i18n";
import * as manage from "../manage";
import { Icon } from "../parts/icons";
import { day, Sure, Table, useRead } from "../parts/kept";
import { Dialog } from "../parts/overlay";
import { Command, ProblemTold } from "../parts/told";
import { Field } from "./camera";

const ROLES = ["viewer", "operator", "admin", "ingest"] as const;

export function Tokens() {
  const [found, problem, look, failed] = useRead(manage.tokens);
  const [making, setMaking] = useState(false);
  const [secret, setSecret] = useState("");
  const [ending, setEnding] = useState<manage.TokenInfo | null>(null);
  const revoke = async (id: string): Promise<void> => {
    setEnding(null);
    await manage.revokeToken(id).then(look, failed);
  };
  return (
    <section>
      <h2>{t("tokens")}</h2>
      {problem && <ProblemTold problem={problem} onRetry={look} />}
      {secret && (
        <div class="told" role="status">
          <div>
            <p class="told-title">{t("tokens.secret")}</p>
            <Command>{secret}</Command>
          </div>
        </div>
      )}
      {Boolean(found?.length) && (
        <Table
          heads={["tokens.name", "tokens.role", "cameras", "edit.groups", "tokens.ends", "tokens.used", "tokens.state"]}
          name={t("tokens")}
        >
          {found?.map((one) => (
            <tr key={one.id}>
              <th scope="row">{one.name}</th>
              <td>{one.role}</td>
              <td>{one.every_camera ? t("live.all") : one.cameras.join(", ")}</td>
              <td>{one.groups.join(", ")}</td>
              <td>{day(one.expires_ms)}</td>
              <td>{day(one.used_ms)}</td>
              <td>
                {one.counts ? (
                  <button type="button" class="button" onClick={() => setEnding(one)}>
                    {t("tokens.revoke")}
                  </button>
                ) : (
                  t("tokens.over")
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
      <p>
        <button type="button" class="button" onClick={() => setMaking(true)}>
          <Icon name="plus" />
          {t("tokens.new")}
        </button>
      </p>
      {making && (
        <NewToken
          onClose={() => setMaking(false)}
          onMade={(made) => {
            setSecret(made);
            setMaking(false);
            look();
          }}
        />
      )}
      {ending && (
        <Sure
          title={t("tokens.sure", { name: ending.name })}
          words={t("tokens.sure_words")}
          yes={t("tokens.revoke")}
          onYes={() => void revoke(ending.id)}
          onClose={() => setEnding(null)}
        />
      )}
    </section>
  );
}

const names = (typed: string): string[] => typed.split(/[\s,]+/).filter(Boolean);

function NewToken({ onClose, onMade }: { onClose: () => void; onMade: (secret: string) => void }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState<string>("viewer");
  const [cameras, setCameras] = useState("");
  const [groups, setGroups] = useState("");
  const [days, setDays] = useState("");
  const [problem, setProblem] = useState<Problem | null>(null);
  const make = async (): Promise<void> => {
    try {
      onMade(await manage.createToken(name.trim(), role, names(cameras), names(groups), Number(days) || 0));
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(-1, "", String(error), ""));
    }
  };
  return (
    <Dialog title={t("tokens.new")} kind="small" onClose={onClose}>
      {problem && <ProblemTold problem={problem} onRetry={() => setProblem(null)} />}
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          void make();
        }}
      >
        <Field name={t("tokens.name")}>
          <input required autofocus maxLength={64} value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </Field>
        <Field name={t("tokens.role")}>
          <select value={role} onChange={(event) => setRole(event.currentTarget.value)}>
            {ROLES.map((one) => (
              <option key={one} value={one}>
                {t(`role.${one}`)}
              </option>
            ))}
          </select>
        </Field>
        <Field name={t("cameras")} hint={t("tokens.cameras_hint")}>
          <input value={cameras} onInput={(event) => setCameras(event.currentTarget.value)} />
        </Field>
        <Field name={t("edit.groups")} hint={t("tokens.groups_hint")}>
          <input value={groups} onInput={(event) => setGroups(event.currentTarget.value)} />
        </Field>
        <Field name={t("tokens.days")}>
          <input
            type="number"
            min="0"
            step="any"
            placeholder={t("edit.ever")}
            value={days}
            onInput={(event) => setDays(event.currentTarget.value)}
          />
        </Field>
        <div class="form-end">
          <span class="spring" />
          <button type="submit" class="button main" disabled={!name.trim()}>
            {t("tokens.make")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
