// The page around the pages: where to go, keys, light, language, the token.

import { useEffect, useState } from "preact/hooks";
import { setToken, token, tokenWanted } from "./api";
import { LANGUAGES, language, setLanguage, t, type Key } from "./i18n";
import { Icon } from "./parts/icons";
import { Dialog, Menu } from "./parts/overlay";
import { plainClick } from "./parts/card";
import { pictureRefused, useDroppedPictures } from "./parts/searchbar";
import { AskPage } from "./pages/ask";
import { CamerasPage } from "./pages/cameras";
import { Detail } from "./pages/detail";
import { LivePage } from "./pages/live";
import { SystemPage } from "./pages/system";
import { WhenPage } from "./pages/when";
import { asks, EMPTY, format, PAGES, type Page, type Route } from "./route";
import { learnSession, loginAddress, logOut, session } from "./session";
import { go, route, theme, type Theme } from "./state";

const BODIES: Record<Page, () => preact.JSX.Element> = {
  ask: AskPage,
  when: WhenPage,
  live: LivePage,
  cameras: CamerasPage,
  system: SystemPage,
};

export function App() {
  const now = route.value;
  const [help, setHelp] = useState(false);
  const over = useDroppedPictures();
  useKeys(() => setHelp(true));
  // Again when a token is wanted: the login may be over.
  useEffect(() => void learnSession(), [tokenWanted.value]);
  useEffect(() => {
    document.documentElement.lang = language.value;
    document.title = now.q ? `${now.q} · Watchword` : "Watchword";
  });
  const Body = BODIES[now.page];
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => skip(event)}>
        {t("skip")}
      </a>
      <Header onHelp={() => setHelp(true)} />
      <main id="main" tabIndex={-1}>
        <Body />
      </main>
      {now.moment && <Detail />}
      {help && <Help onClose={() => setHelp(false)} />}
      {tokenWanted.value && <TokenWanted />}
      {over && (
        <div class="drop-here" aria-hidden="true">
          <Icon name="picture" />
          {t("ask.drop")}
        </div>
      )}
      {pictureRefused.value && (
        <div class="toast" role="alert">
          {pictureRefused.value}
          <button
            type="button"
            class="quiet round"
            aria-label={t("close")}
            onClick={() => (pictureRefused.value = "")}
          >
            <Icon name="close" />
          </button>
        </div>
      )}
    </>
  );
}

function skip(event: MouseEvent): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

/** Ask and When keep the question between them; the wordmark begins anew. */
function target(page: Page): Route {
  const now = route.value;
  return { ...now, page, limit: EMPTY.limit, moment: "", at: 0, edit: "" };
}

function Header({ onHelp }: { onHelp: () => void }) {
  const now = route.value;
  const to = (where: Route) => (event: MouseEvent) => {
    if (!plainClick(event)) return;
    event.preventDefault();
    go(where);
    window.scrollTo(0, 0);
  };
  return (
    <header class="top">
      <a class="home-link" href={format(EMPTY)} onClick={to(EMPTY)}>
        <svg viewBox="0 0 32 32" aria-hidden="true" class="mark">
          <path d="M7 12V9a2 2 0 0 1 2-2h3M20 7h3a2 2 0 0 1 2 2v3M25 20v3a2 2 0 0 1-2 2h-3M12 25H9a2 2 0 0 1-2-2v-3" />
          <circle cx="16" cy="16" r="4" />
        </svg>
        <span class={now.page === "ask" && !asks(now) ? "unseen" : ""}>Watchword</span>
      </a>
      <nav aria-label={t("pages")}>
        {PAGES.map((page) => (
          <a
            key={page}
            href={format(target(page))}
            aria-current={now.page === page ? "page" : undefined}
            onClick={to(target(page))}
          >
            {t(page as Key)}
          </a>
        ))}
      </nav>
      {session.value.name && (
        <span class="who" title={t("login.as", { name: session.value.name })}>
          {session.value.name}
        </span>
      )}
      {session.value.login && !session.value.name && !token.value && (
        <a class="button main" href={loginAddress()}>
          {t("login.in")}
        </a>
      )}
      <Menu label={<Icon name="menu" />} name={t("settings")} kind="quiet round">
        {(close) => (
          <>
            <Choice
              name={t("theme")}
              value={theme.value}
              options={(["system", "light", "dark"] as Theme[]).map((one) => [
                one,
                t(`theme.${one}` as Key),
              ])}
              onChange={(one) => (theme.value = one as Theme)}
            />
            <Choice
              name={t("language")}
              value={language.value}
              options={LANGUAGES}
              onChange={setLanguage}
            />
            <button
              type="button"
              class="quiet"
              onClick={() => {
                close();
                onHelp();
              }}
            >
              {t("help")} <kbd>?</kbd>
            </button>
            {token.value && (
              <button type="button" class="quiet" onClick={() => setToken("")}>
                {t("token.forget")}
              </button>
            )}
            {session.value.name && (
              <>
                <p class="hint">{t("login.as", { name: session.value.name })}</p>
                <button type="button" class="quiet" onClick={() => void logOut()}>
                  {t("login.out")}
                </button>
              </>
            )}
            {session.value.login && !session.value.name && token.value && <a href={loginAddress()}>{t("login.in")}</a>}
          </>
        )}
      </Menu>
    </header>
  );
}

interface ChoiceProps {
  name: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
}

function Choice({ name, value, options, onChange }: ChoiceProps) {
  return (
    <fieldset class="choices">
      <legend>{name}</legend>
      {options.map(([one, words]) => (
        <label key={one} class="choice">
          <input type="radio" name={name} checked={one === value} onChange={() => onChange(one)} />
          <span>{words}</span>
        </label>
      ))}
    </fieldset>
  );
}

const KEYS: [string[], Key][] = [
  [["/"], "keys.field"],
  [["←", "→", "↑", "↓"], "keys.walk"],
  [["Enter"], "keys.open"],
  [["Esc"], "keys.close"],
  [["+", "−", "0"], "keys.zoom"],
  [["?"], "keys.help"],
];

function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title={t("help")} kind="small" onClose={onClose}>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{t(what)}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">{t("help.pictures")}</p>
    </Dialog>
  );
}

function TokenWanted() {
  const [text, setText] = useState("");
  return (
    <Dialog title={t("token.title")} kind="small" onClose={() => (tokenWanted.value = false)}>
      <form
        class="token"
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim()) setToken(text.trim());
        }}
      >
        <p>{t(token.value ? "problem.denied_other" : "problem.denied_todo")}</p>
        <input
          type="password"
          autocomplete="off"
          autofocus
          value={text}
          aria-label={t("token")}
          placeholder={t("token")}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <p class="hint">{t("token.kept")}</p>
        {session.value.login && (
          <a class="button main" href={loginAddress()}>
            {t("login.in")}
          </a>
        )}
        <button type="submit" class={session.value.login ? "button" : "button main"} disabled={!text.trim()}>
          {t("token.use")}
        </button>
      </form>
    </Dialog>
  );
}

/** "/" goes to the field and "?" to the help, but not while something is typed. */
function useKeys(onHelp: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const at = event.target as HTMLElement;
      if (at instanceof HTMLTextAreaElement || at instanceof HTMLSelectElement) return;
      if (at instanceof HTMLInputElement && !["radio", "checkbox"].includes(at.type)) {
        if (event.key === "Escape" && at.id === "question") at.blur();
        return;
      }
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "/") {
        const field = document.querySelector<HTMLInputElement>("#question");
        if (field) field.focus();
        else {
          go({ page: "ask" });
          setTimeout(() => document.querySelector<HTMLInputElement>("#question")?.focus());
        }
        document.querySelector<HTMLInputElement>("#question")?.select();
      } else if (event.key === "?") onHelp();
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}
