// The calls of the API that change the house. The names are those of proto/v1/manage.proto.

import { address, ask, json, read } from "./api";

export interface Who {
  name: string;
  role: string;
  every_camera: boolean;
  /** Clips that can be added by `addDemo`. */
  demo: string[];
}

export type Corner = [number, number];
/** A polygon in shares of the picture's width and height. */
export type Area = Corner[];

export interface RecordingLimits {
  on: boolean;
  days: number;
  bytes: number;
}

export type PacketGate = "auto" | "off";

export interface CameraSettings {
  name: string;
  /** Without user, password and query. */
  address: string;
  kind: string;
  watching: boolean;
  enabled: boolean;
  loop: boolean;
  speed: number;
  fps: number | null;
  novelty: number | null;
  packet_gate: PacketGate | null;
  groups: string[];
  /** Where it can be reached from; empty: from everywhere. */
  site: string;
  masks: Area[];
  ignored: Area[];
  unmasked_recording: boolean;
  record: RecordingLimits | null;
  retention_days: number | null;
  others_days: number | null;
  retention_bytes: number | null;
  others_bytes: number | null;
}

type Told = "name" | "address" | "kind" | "watching" | "others_days" | "others_bytes";

export type CameraChange = Partial<Omit<CameraSettings, Told>> & {
  url?: string;
  unchecked?: boolean;
};

/** What was read, and the ETag by which it can be changed. */
export interface Tagged {
  settings: CameraSettings;
  tag: string;
}

/** A picture of a source, and what it sends. */
export interface Shot {
  url: string;
  words: string;
}

const JSON_BODY = { "Content-Type": "application/json" };

export function whoAmI(): Promise<Who> {
  return json<Who>(address("me"));
}

const place = (name: string): string => address(`cameras/${encodeURIComponent(name)}`);

async function tagged(response: Response): Promise<Tagged> {
  return { settings: await read<CameraSettings>(response), tag: response.headers.get("etag") ?? "*" };
}

export async function cameraSettings(name: string): Promise<Tagged> {
  return tagged(await ask(place(name)));
}

export async function addCamera(name: string, camera: CameraChange): Promise<Tagged> {
  return tagged(await ask(place(name), { method: "PUT", headers: JSON_BODY, body: JSON.stringify(camera) }));
}

export async function changeCamera(name: string, tag: string, change: CameraChange): Promise<Tagged> {
  const headers = { ...JSON_BODY, "If-Match": tag };
  return tagged(await ask(place(name), { method: "PATCH", headers, body: JSON.stringify(change) }));
}

export async function removeCamera(name: string, tag: string): Promise<void> {
  await ask(place(name), { method: "DELETE", headers: { "If-Match": tag } });
}

/** Look at a source. Without an address, at the one that the camera has. Whoever takes it revokes its address. */
export async function testPicture(name: string, url: string, signal: AbortSignal): Promise<Shot> {
  const body = JSON.stringify(url ? { url } : {});
  const response = await ask(`${place(name)}/test-picture`, { method: "POST", headers: JSON_BODY, body, signal });
  const [codec, width, height, fps] = (response.headers.get("x-watchword-source") ?? "").split(" ");
  const pace = Number(fps) ? `, ${fps}/s` : "";
  return {
    url: URL.createObjectURL(await response.blob()),
    words: width ? `${codec} ${width} × ${height}${pace}` : "",
  };
}

export interface Storage {
  moments: number;
  buckets: number;
  gone: number;
  gone_tomorrow: number;
  disk_free_bytes: number;
  disk_bytes: number;
  cameras: { camera: string; oldest_ms: number; days: number; bytes: number; bytes_days: number; held_below: number }[];
  missing: string[];
}

export interface TokenInfo {
  id: string;
  name: string;
  role: string;
  cameras: string[];
  groups: string[];
  every_camera: boolean;
  expires_ms: number;
  used_ms: number;
  counts: boolean;
}

export interface Audit {
  lines: Record<string, unknown>[];
  chains: { name: string; lines: number; head: string; trouble: string }[];
}

export interface Erasure {
  number: number;
  camera: string;
  start_ms: number;
  end_ms: number;
  reason: string;
  done_ms: number;
}

const post = (path: string, body: unknown): Promise<Response> =>
  ask(address(path), { method: "POST", headers: JSON_BODY, body: JSON.stringify(body) });

export const storage = (): Promise<Storage> => json<Storage>(address("storage"));
export const tokens = async (): Promise<TokenInfo[]> => (await json<{ tokens: TokenInfo[] }>(address("tokens"))).tokens;
export const erasures = async (): Promise<Erasure[]> =>
  (await json<{ erasures: Erasure[] }>(address("erasures"))).erasures;

export async function createToken(
  name: string,
  role: string,
  cameras: string[],
  groups: string[],
  days: number,
): Promise<string> {
  return (await read<{ secret: string }>(await post("tokens", { name, role, cameras, groups, days }))).secret;
}

export async function revokeToken(id: string): Promise<void> {
  await ask(address(`tokens/${encodeURIComponent(id)}`), { method: "DELETE" });
}

export function audit(verify: boolean): Promise<Audit> {
  return json<Audit>(address("audit", new URLSearchParams({ count: "50", verify: String(verify) })));
}

export async function erase(camera: string, start_ms: number, end_ms: number, reason: string): Promise<void> {
  await post("erasures", { camera, start_ms, end_ms, reason });
}

export async function receipt(number: number): Promise<Blob> {
  return (await ask(address(`erasures/${number}/receipt`))).blob();
}

export async function addDemo(): Promise<void> {
  await post("demo", {});
}
