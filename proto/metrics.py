"""The metric catalogue: every name that Watchword exposes, its kind, its labels and its meaning.

Labels are bounded: no camera names, no ids. Rooms import the object they update from here.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# Every process
BUILD = Info("watchword_build", "Which version runs, and as which process.")
DATA_FREE = Gauge("watchword_data_free_bytes", "Free space of the disk that holds data_dir.")
DATA_SIZE = Gauge("watchword_data_size_bytes", "Size of the disk that holds data_dir.")
SPANS_LOST = Counter("watchword_trace_spans_lost_total", "Spans of traces that the collector did not take.")

# Both gRPC services. The kinds of the query service are search and other; the encoder's is other.
CALLS_INSIDE = Gauge("watchword_calls_inside", "Calls under way.", ["kind"])
CALLS_REFUSED = Counter("watchword_calls_refused_total", "Calls refused at the door.", ["kind"])
CALLS_EXPECTED = Gauge(
    "watchword_calls_expected_seconds", "How long a call that comes now is expected to take at most.", ["kind"]
)
CALLS_PROMISED = Gauge(
    "watchword_calls_promised_seconds",
    "Within which time calls are to be answered. Of it 80 % are given to what is expected; beyond, calls are refused.",
    ["kind"],
)

# Camera process
FRAMES_SEEN = Counter("watchword_camera_frames_seen_total", "Pictures sampled from sources.")
FRAMES_PUBLISHED = Counter("watchword_camera_frames_published_total", "Frames that the broker acknowledged.")
FRAMES_SAME = Counter("watchword_camera_frames_same_total", "Pictures not kept, since they showed nothing new.")
FRAMES_LOST = Counter("watchword_camera_frames_lost_total", "Frames dropped before the broker had them.", ["reason"])
SOURCE_FAILURES = Counter(
    "watchword_camera_source_failures_total", "Sources that failed or ended in error.", ["reason"]
)
PACKETS_DECODED = Counter("watchword_camera_packets_decoded_total", "Packets of live cameras given to the decoder.")
PACKETS_PASSED = Counter(
    "watchword_camera_packets_passed_total", "Packets of live cameras that were never decoded: nothing moved in them."
)
PACKET_GATES_OPENED = Counter(
    "watchword_camera_packet_gates_opened_total",
    "How often something moved after nothing did, by what said so first: packets, or a picture.",
    ["reason"],
)
CAMERA_GATES = Gauge(
    "watchword_camera_packet_gates",
    "Cameras watched here by what their packet gate does: off, learning, gating, open, intra, unable.",
    ["state"],
)
CAMERAS_WANTED = Gauge("watchword_camera_sources_wanted", "Cameras that are registered to be watched, by whomever.")
FLEET_PROCESSES = Gauge("watchword_camera_fleet_processes", "Camera processes that share the cameras, this one too.")
CAMERAS_OPEN = Gauge("watchword_camera_sources_open", "Sources that deliver pictures now.")
CAMERA_STATES = Gauge(
    "watchword_camera_states", "Cameras watched here: connecting, live, silent, failing, done.", ["state"]
)
CAMERA_VIEWS = Gauge("watchword_camera_views", "Cameras watched here, by the state of their view.", ["state"])
VIEW_CHANGES = Counter(
    "watchword_camera_view_changes_total",
    "Views that changed for good: turned, covered, defocused, or clear again.",
    ["state"],
)
CROPS_SENT = Counter("watchword_camera_crops_total", "Parts of kept pictures that were cut out since something moved.")
RECORDED_BYTES = Counter("watchword_recording_bytes_total", "Bytes of video that were recorded.")
RECORDED_SIZE = Gauge("watchword_recording_size_bytes", "Size of all recordings that this process knows.")
RECORDING_LOST = Counter(
    "watchword_recording_lost_total",
    "Fragments, a second or two of one camera, that were not recorded: the disk is behind (queue) or refuses (disk), "
    "or the stream cannot be recorded (format, time).",
    ["reason"],
)
RECORDINGS_REMOVED = Counter(
    "watchword_recording_removed_total",
    "Segments removed: older than their camera's days, over its bytes, over the total, since the disk was full, older "
    "than the camera's retention, or erased.",
    ["reason"],
)

# Stream worker
FRAMES_CONSUMED = Counter("watchword_stream_frames_consumed_total", "Frames taken from the topic.")
FRAMES_DONE = Counter(
    "watchword_stream_frames_done_total", "Frames finished: in a stored moment, dead-lettered or declared as a gap."
)
DEAD_LETTERS = Counter("watchword_stream_dead_letters_total", "Frames that can never be processed.", ["reason"])
MOMENTS_WRITTEN = Counter("watchword_stream_moments_written_total", "Moments upserted.", ["state"])
MOMENTS_FORGOTTEN = Counter(
    "watchword_stream_moments_forgotten_total",
    "Moments that the index had acknowledged and did not have after an outage. They were stored again.",
)
MOMENTS_PASSED = Counter(
    "watchword_stream_moments_passed_over_total",
    "Moments not stored, since they were too old for their camera or erased.",
)
FRAMES_SHED = Counter(
    "watchword_stream_frames_shed_total", "Frames skipped and declared, since more arrived than could be looked at."
)
FRAMES_EXPIRED = Counter(
    "watchword_stream_frames_expired_total", "Frames that the broker dropped before they were read."
)
MOMENTS_WAITING = Gauge("watchword_stream_moments_waiting", "Moments that wait to be stored.")
PICTURES_WAITING = Gauge("watchword_stream_pictures_waiting", "Moments whose pictures wait to be stored.")
PICTURES_LOST = Counter(
    "watchword_stream_pictures_lost_total",
    "Moments whose pictures were left out: their store did not take them.",
)
SWEPT = Counter(
    "watchword_life_removed_total",
    "What the sweeper removed since it was too old or erased: moments (index), pictures, gaps (coverage), samples "
    "(backgrounds), and whole buckets.",
    ["part"],
)
SWEEP_BEHIND = Gauge(
    "watchword_life_behind_seconds", "How long ago the oldest erasure was asked for that is not carried out everywhere."
)
SWEEP_REFUSED = Gauge("watchword_life_refused", "1 while nothing is removed for its age, since the clock may be wrong.")
LATE_SECONDS = Gauge("watchword_stream_late_seconds", "How long the last frames taken had waited.")
BEHIND_SECONDS = Gauge(
    "watchword_stream_behind_seconds",
    "How far this worker is behind the end of the log in its partitions, by the log's time: how long the oldest frame "
    "has waited that is not looked at, or whose moment is not stored.",
)
FRAMES_OPEN = Gauge("watchword_stream_frames_open", "Frames taken and not yet finished.")
LAG = Gauge("watchword_stream_lag_frames", "Frames in this worker's partitions not taken yet.")
PARTITIONS = Gauge("watchword_stream_partitions", "Partitions that this worker holds.", ["state"])
RETRIES = Counter("watchword_stream_retries_total", "Calls repeated because a part was down or full.", ["part"])
HOP_SECONDS = Histogram(
    "watchword_hop_seconds",
    "Time since the picture was grabbed, at each hop: published, consumed, embedded, written, visible. The stream "
    "worker measures one frame per batch.",
    ["hop"],
    buckets=_SECONDS,
)

# Encoder worker
ENCODER_ITEMS = Counter("watchword_encoder_items_total", "Items answered.", ["kind", "outcome"])
ENCODER_REFUSED = Counter("watchword_encoder_refused_total", "Requests refused at the door.", ["kind"])
ENCODER_BATCH = Histogram("watchword_encoder_batch_items", "Items per engine call.", ["kind"], buckets=_SIZES)
ENCODER_RUN_SECONDS = Histogram(
    "watchword_encoder_run_seconds",
    "Time of one engine call. The engine label is the position in encoder.devices.",
    ["kind", "engine"],
    buckets=_SECONDS,
)
ENCODER_ENGINES = Gauge("watchword_encoder_engines_ready", "Engines that serve now.")
ENCODER_ENGINE_FAILURES = Counter(
    "watchword_encoder_engine_failures_total", "Engines that failed or hung, and were abandoned.", ["engine", "reason"]
)
ENCODER_OBJECTS = Counter("watchword_encoder_objects_total", "Objects found in pictures.")
ENCODER_QUEUED = Gauge("watchword_encoder_queued_items", "Items admitted and not yet answered.", ["kind"])

# Query service
SEARCHES = Counter("watchword_query_searches_total", "Searches, also those refused at the door.", ["outcome"])
SEARCH_SECONDS = Histogram(
    "watchword_query_search_seconds", "Time of a search, as the server saw it.", buckets=_SECONDS
)
SEARCH_PART_SECONDS = Histogram(
    "watchword_query_part_seconds",
    "Time of the parts of a search: embed, index, judge; and coverage, which is read beside the index.",
    ["part"],
    buckets=_SECONDS,
)
CACHE_LOOKUPS = Counter("watchword_query_cache_lookups_total", "Look-ups in the cache.", ["kind", "outcome"])
AUDIT_NOTED = Counter("watchword_query_audit_noted_total", "Lines of the audit that were written.")
AUDIT_LOST = Counter(
    "watchword_query_audit_lost_total", "Lines of the audit that were not written: their disk is full or too slow."
)
SHARDS_MISSING = Counter("watchword_query_shards_missing_total", "Times a shard did not answer a search.")

# Gateway
GATEWAY_REQUESTS = Counter(
    "watchword_gateway_requests_total",
    "HTTP requests answered. The part is the call's name; the outcome is the status, or `gone` without one.",
    ["part", "outcome"],
)
GATEWAY_SECONDS = Histogram(
    "watchword_gateway_seconds", "Time of a request, as the gateway saw it.", ["part"], buckets=_SECONDS
)
