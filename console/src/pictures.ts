// Pictures of moments. They are fetched rather than named in <img src>, because a header says whose instant it is, and
// because a token cannot travel with an <img>.

import { address, ask } from "./api";
import type { Box } from "./types";

export interface Picture {
  url: string;
  blob: Blob;
  /** The instant it shows; 0 for the moment's most representative picture, in which a hit's box may not lie. */
  at: number;
}

interface Entry {
  picture: Promise<Picture>;
  users: number;
}

const MOST_KEPT = 300;
const entries = new Map<string, Entry>();

export function pictureAddress(moment: string, at: number): string {
  return address(
    `moments/${encodeURIComponent(moment)}/picture`,
    at ? new URLSearchParams({ at_ms: String(at) }) : undefined,
  );
}

/** Take a picture; the second value gives it back. Pictures that nobody holds stay for a while. */
export function take(moment: string, at: number): [Promise<Picture>, () => void] {
  const key = pictureAddress(moment, at);
  let entry = entries.get(key);
  if (!entry) {
    entry = { picture: load(key), users: 0 };
    entry.picture.catch(() => entries.delete(key));
  }
  const taken = entry;
  taken.users += 1;
  entries.delete(key);
  entries.set(key, taken);
  return [taken.picture, () => giveBack(taken)];
}

function giveBack(entry: Entry): void {
  entry.users -= 1;
  for (const [key, old] of entries) {
    if (entries.size <= MOST_KEPT) break;
    if (old.users > 0) continue;
    entries.delete(key);
    void old.picture.then((picture) => URL.revokeObjectURL(picture.url)).catch(() => undefined);
  }
}

/** A change of token makes other pictures visible or invisible. */
export function forgetPictures(): void {
  entries.clear();
}

async function load(url: string): Promise<Picture> {
  const response = await ask(url);
  const blob = await response.blob();
  return { url: URL.createObjectURL(blob), blob, at: Number(response.headers.get("x-watchword-at-ms") ?? 0) };
}

/** What the box of a picture shows, as a JPEG. */
export async function cut(picture: Blob, box: Box): Promise<Blob> {
  const whole = await createImageBitmap(picture);
  const left = Math.floor(box.left * whole.width);
  const top = Math.floor(box.top * whole.height);
  const width = Math.max(8, Math.ceil(box.right * whole.width) - left);
  const height = Math.max(8, Math.ceil(box.bottom * whole.height) - top);
  return drawn(whole, left, top, width, height, 1);
}

const LONGEST = 1280;

/** Any picture that this browser can open, as a JPEG of a size that the API takes. Rejects what is no picture. */
export async function asJpeg(file: Blob): Promise<Blob> {
  const whole = await createImageBitmap(file);
  return drawn(whole, 0, 0, whole.width, whole.height, Math.min(1, LONGEST / Math.max(whole.width, whole.height)));
}

function drawn(from: ImageBitmap, x: number, y: number, width: number, height: number, by: number): Promise<Blob> {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * by));
  canvas.height = Math.max(1, Math.round(height * by));
  canvas.getContext("2d")!.drawImage(from, x, y, width, height, 0, 0, canvas.width, canvas.height);
  from.close();
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/jpeg", 0.9);
  });
}

/** The box to draw, or null: only in the picture of its own instant, and not when it is the whole picture. */
export function boxToDraw(box: Box, wanted: number, shown: number): Box | null {
  if (!wanted || wanted !== shown) return null;
  const { left, top, right, bottom } = box;
  if (!(0 <= left && left < right && right <= 1 && 0 <= top && top < bottom && bottom <= 1)) return null;
  return left === 0 && top === 0 && right === 1 && bottom === 1 ? null : box;
}
