BEGIN TRANSACTION;
CREATE TABLE backgrounds (
	space VARCHAR(16) NOT NULL, 
	camera VARCHAR(64) NOT NULL, 
	"view" BIGINT NOT NULL, 
	dimension INTEGER NOT NULL, 
	lengths VARCHAR NOT NULL, 
	moments VARCHAR NOT NULL, 
	vectors BLOB NOT NULL, 
	PRIMARY KEY (space, camera)
);
CREATE TABLE declared_gaps (
	camera VARCHAR(64) NOT NULL, 
	reason VARCHAR(16) NOT NULL, 
	log VARCHAR(32) NOT NULL, 
	partition INTEGER NOT NULL, 
	anchor BIGINT NOT NULL, 
	first_offset BIGINT NOT NULL, 
	last_offset BIGINT NOT NULL, 
	start_ms BIGINT NOT NULL, 
	end_ms BIGINT NOT NULL, 
	frames BIGINT NOT NULL, 
	length_class INTEGER NOT NULL, 
	PRIMARY KEY (camera, reason, log, partition, anchor)
);
INSERT INTO "declared_gaps" VALUES('gate','away','',-1,1000,-1,-1,1000,2000,0,0);
CREATE TABLE leases (
	name VARCHAR(256) NOT NULL, 
	holder VARCHAR(256) NOT NULL, 
	taken_ms BIGINT NOT NULL, 
	for_ms BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('camera/gate','me',10,5);
CREATE TABLE marks (
	camera VARCHAR(64) NOT NULL, 
	captured_ms BIGINT NOT NULL, 
	log VARCHAR(32) NOT NULL, 
	partition INTEGER NOT NULL, 
	"offset" BIGINT NOT NULL, 
	PRIMARY KEY (camera)
);
INSERT INTO "marks" VALUES('gate',5,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0,7);
CREATE TABLE merged_gaps (
	camera VARCHAR(64) NOT NULL, 
	reason VARCHAR(16) NOT NULL, 
	log VARCHAR(32) NOT NULL, 
	partition INTEGER NOT NULL, 
	anchor BIGINT NOT NULL, 
	first_offset BIGINT NOT NULL, 
	last_offset BIGINT NOT NULL, 
	start_ms BIGINT NOT NULL, 
	end_ms BIGINT NOT NULL, 
	frames BIGINT NOT NULL, 
	length_class INTEGER NOT NULL, 
	PRIMARY KEY (camera, reason, log, partition, anchor)
);
CREATE TABLE meta (
	name VARCHAR(64) NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('version',1);
CREATE TABLE partition_marks (
	log VARCHAR(32) NOT NULL, 
	partition INTEGER NOT NULL, 
	next_offset BIGINT NOT NULL, 
	broker_ms BIGINT NOT NULL, 
	PRIMARY KEY (log, partition)
);
INSERT INTO "partition_marks" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0,7,9);
CREATE TABLE progress (
	camera VARCHAR(64) NOT NULL, 
	source VARCHAR NOT NULL, 
	run BIGINT NOT NULL, 
	start_ms BIGINT NOT NULL, 
	at_s FLOAT NOT NULL, 
	sequence BIGINT NOT NULL, 
	ended BOOLEAN NOT NULL, 
	PRIMARY KEY (camera)
);
INSERT INTO "progress" VALUES('gate','gate.mp4',3,4,1.5,6,0);
CREATE TABLE views (
	camera VARCHAR(64) NOT NULL, 
	"view" BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	since_ms BIGINT NOT NULL, 
	PRIMARY KEY (camera)
);
INSERT INTO "views" VALUES('gate',2,'turned',8);
CREATE INDEX declared_gaps_by_time ON declared_gaps (length_class, start_ms);
CREATE INDEX declared_gaps_by_place ON declared_gaps (log, partition, last_offset);
CREATE INDEX merged_gaps_by_time ON merged_gaps (length_class, start_ms);
CREATE INDEX merged_gaps_by_place ON merged_gaps (log, partition, last_offset);
COMMIT;
