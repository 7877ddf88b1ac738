// What the browser keeps for this page: preferences and saved questions for good, the token and pictures for this tab.
// A browser may refuse to keep anything; then the page works without.

const PREFIX = "watchword.";
const MOST_PICTURES = 6;

function read(storage: () => Storage, name: string): string | null {
  try {
    return storage().getItem(PREFIX + name);
  } catch {
    return null;
  }
}

function write(storage: () => Storage, name: string, value: string | null): boolean {
  try {
    if (value === null) storage().removeItem(PREFIX + name);
    else storage().setItem(PREFIX + name, value);
    return true;
  } catch {
    return false;
  }
}

const forGood = (): Storage => window.localStorage;
const forThisTab = (): Storage => window.sessionStorage;

export const recall = (name: string): string | null => read(forGood, name);
export const remember = (name: string, value: string | null): boolean => write(forGood, name, value);
export const recallHere = (name: string): string | null => read(forThisTab, name);
export const rememberHere = (name: string, value: string | null): boolean => write(forThisTab, name, value);

/** Pictures that were dropped in, by their key. A reload of the tab still has them, another tab has not. */
const pictures = new Map<string, Blob>();

export async function keepPicture(picture: Blob): Promise<string> {
  const bytes = new Uint8Array(await picture.arrayBuffer());
  // Only a name: crypto.subtle would be missing on a plain http address of the local network.
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  const key = hash.toString(36);
  pictures.set(key, picture);
  const keys = (recallHere("pictures") ?? "").split(",").filter((one) => one && one !== key);
  while (keys.length >= MOST_PICTURES) rememberHere(`picture.${keys.shift()}`, null);
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  if (rememberHere(`picture.${key}`, btoa(text))) rememberHere("pictures", [...keys, key].join(","));
  return key;
}

export function keptPicture(key: string): Blob | null {
  const here = pictures.get(key);
  if (here) return here;
  const text = recallHere(`picture.${key}`);
  if (!text) return null;
  try {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const picture = new Blob([bytes], { type: "image/jpeg" });
    pictures.set(key, picture);
    return picture;
  } catch {
    return null;
  }
}
