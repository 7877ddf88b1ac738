// What the API says. The names are those of proto/v1/query.proto.

export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export interface ObjectCount {
  kind: string;
  count: number;
}

export interface Hit {
  moment_id: string;
  camera: string;
  start_ms: number;
  peak_ms: number;
  end_ms: number;
  score: number;
  closed: boolean;
  frames: number;
  confidence: number;
  box: Box;
  at_ms: number;
  kind: string;
  objects: ObjectCount[];
  moments: number;
}

export interface Gap {
  camera: string;
  start_ms: number;
  end_ms: number;
  frames: number;
  reason: string;
}

export interface Watermark {
  camera: string;
  looked_ms: number;
}

export interface Coverage {
  partial: boolean;
  shards_missing: string[];
  gaps: Gap[];
  gaps_in_all: number;
  frames_not_looked_at: number;
  watermarks: Watermark[];
  unsearched: { shard: string; start_ms: number; end_ms: number; cold: boolean }[];
  spaces_unsearched: string[];
  coverage_unknown: boolean;
}

export interface Timing {
  total_ms: number;
  embed_ms: number;
  index_ms: number;
  loading_ms: number;
  vector_cached: boolean;
}

export interface Reply {
  hits: Hit[];
  coverage: Coverage;
  timing: Timing;
  space: string;
  no_confident_match: boolean;
  threshold: number;
}

/** How a camera is doing, as the process that watches it told. */
export interface CameraStatus {
  state: string;
  since_ms: number;
  why: string;
  fps_wanted: number;
  fps_got: number;
  width: number;
  height: number;
  codec: string;
  bits_per_second: number;
  advice: string[];
}

export interface Camera {
  name: string;
  watching: boolean;
  groups?: string[];
  /** An older query service does not say it. */
  status?: CameraStatus;
}

export interface Cameras {
  cameras: Camera[];
  kinds: string[];
}

export interface Health {
  ready: boolean;
  version: string;
  /** What is wrong and what to do, when it is not ready. */
  todo?: string;
}
