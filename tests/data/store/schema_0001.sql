BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE artifact (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	nbytes BIGINT NOT NULL, 
	at FLOAT NOT NULL, 
	gone BOOLEAN NOT NULL, 
	CONSTRAINT pk_artifact PRIMARY KEY (id), 
	CONSTRAINT uq_artifact_key UNIQUE ("key")
);
INSERT INTO "artifact" VALUES(1,'some key',1,1.0,1);
CREATE TABLE comparison (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	session_id INTEGER NOT NULL, 
	series_id INTEGER NOT NULL, 
	question TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	fails BOOLEAN NOT NULL, 
	estimate FLOAT, 
	low FLOAT, 
	high FLOAT, 
	visible FLOAT, 
	p FLOAT, 
	words TEXT NOT NULL, 
	CONSTRAINT pk_comparison PRIMARY KEY (id), 
	CONSTRAINT fk_comparison_series_id FOREIGN KEY(series_id) REFERENCES series (id), 
	CONSTRAINT fk_comparison_session_id FOREIGN KEY(session_id) REFERENCES session (id), 
	CONSTRAINT uq_comparison_key UNIQUE ("key")
);
INSERT INTO "comparison" VALUES(1,'some key',1,1,'some question','some outcome',1,1.0,1.0,1.0,1.0,1.0,'some words');
CREATE TABLE environment (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	facts TEXT NOT NULL, 
	host_id INTEGER, 
	gpu_id INTEGER, 
	CONSTRAINT pk_environment PRIMARY KEY (id), 
	CONSTRAINT fk_environment_gpu_id FOREIGN KEY(gpu_id) REFERENCES gpu (id), 
	CONSTRAINT fk_environment_host_id FOREIGN KEY(host_id) REFERENCES host (id), 
	CONSTRAINT uq_environment_key UNIQUE ("key")
);
INSERT INTO "environment" VALUES(1,'128ae84b6a81cc9573cbf559e58eac5122ca3aa305d65aa0c3ff626eca5b29bf','{"cpu":"a CPU","driver":"580","gpu":"NVIDIA H100","gpu_uuid":"GPU-1","host":"h1","library":"8.6.1"}',1,1);
CREATE TABLE gpu (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	uuid TEXT NOT NULL, 
	product TEXT NOT NULL, 
	CONSTRAINT pk_gpu PRIMARY KEY (id), 
	CONSTRAINT uq_gpu_key UNIQUE ("key")
);
INSERT INTO "gpu" VALUES(1,'bac8edf0761762c7a15a2f30ff8c9da29ab21b0cc46289fb2d1d5092e0f3ad66','GPU-1','NVIDIA H100');
CREATE TABLE host (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	name TEXT NOT NULL, 
	cpu TEXT NOT NULL, 
	CONSTRAINT pk_host PRIMARY KEY (id), 
	CONSTRAINT uq_host_key UNIQUE ("key")
);
INSERT INTO "host" VALUES(1,'7c02bbd8d3b79a4d5d0a8795afd630f36c5ec6436bb59c23bd1556f26e59e825','h1','a CPU');
CREATE TABLE measurement (
	series_id INTEGER NOT NULL, 
	session_id INTEGER NOT NULL, 
	value FLOAT NOT NULL, 
	low FLOAT, 
	high FLOAT, 
	spread FLOAT NOT NULL, 
	processes INTEGER NOT NULL, 
	environment_id INTEGER NOT NULL, 
	plan_id INTEGER NOT NULL, 
	artifact_id INTEGER, 
	CONSTRAINT pk_measurement PRIMARY KEY (series_id, session_id), 
	CONSTRAINT fk_measurement_artifact_id FOREIGN KEY(artifact_id) REFERENCES artifact (id), 
	CONSTRAINT fk_measurement_environment_id FOREIGN KEY(environment_id) REFERENCES environment (id), 
	CONSTRAINT fk_measurement_plan_id FOREIGN KEY(plan_id) REFERENCES "plan" (id), 
	CONSTRAINT fk_measurement_series_id FOREIGN KEY(series_id) REFERENCES series (id), 
	CONSTRAINT fk_measurement_session_id FOREIGN KEY(session_id) REFERENCES session (id)
)
 WITHOUT ROWID

;
INSERT INTO "measurement" VALUES(1,1,1.14385714285714264193e-03,NULL,NULL,0.001,4,1,1,NULL);
INSERT INTO "measurement" VALUES(1,2,1.14285714285714272604e-03,NULL,NULL,0.001,4,1,1,NULL);
INSERT INTO "measurement" VALUES(2,1,0.001001,NULL,NULL,0.001,4,1,2,NULL);
INSERT INTO "measurement" VALUES(2,2,0.001,NULL,NULL,0.001,4,1,2,NULL);
CREATE TABLE "plan" (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	digests TEXT NOT NULL, 
	CONSTRAINT pk_plan PRIMARY KEY (id), 
	CONSTRAINT uq_plan_key UNIQUE ("key")
);
INSERT INTO "plan" VALUES(1,'1160f24aaf84054d1768711801b32a07c32e78b52549984fc5c75ea09c1be6e5','["3f2e41769b8156028e2faf4f25773c6d89ea2a34004ac44ed7bdf3968a2d2502"]');
INSERT INTO "plan" VALUES(2,'b0e2dcd7c780a861121d1e8ad6e9eb32d2666b2510340ac22514c52e7bb91c05','["50fadbb541ea5d03a1b92bcd6883268cad700db61b5da9913710ead92ed53710"]');
CREATE TABLE record (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	session_id INTEGER NOT NULL, 
	node TEXT NOT NULL, 
	test TEXT NOT NULL, 
	model TEXT NOT NULL, 
	precision TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	point TEXT NOT NULL, 
	backend TEXT NOT NULL, 
	verdict TEXT NOT NULL, 
	stage TEXT NOT NULL, 
	message TEXT NOT NULL, 
	started FLOAT NOT NULL, 
	duration FLOAT NOT NULL, 
	body TEXT NOT NULL, 
	CONSTRAINT pk_record PRIMARY KEY (id), 
	CONSTRAINT fk_record_session_id FOREIGN KEY(session_id) REFERENCES session (id), 
	CONSTRAINT uq_record_key UNIQUE ("key")
);
INSERT INTO "record" VALUES(1,'some key',1,'some node','some test','some model','some precision','some variant','some point','some backend','some verdict','some stage','some message',1.0,1.0,'{}');
CREATE TABLE series (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	cell_key VARCHAR(64) NOT NULL, 
	cell TEXT NOT NULL, 
	metric TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	identity TEXT NOT NULL, 
	CONSTRAINT pk_series PRIMARY KEY (id), 
	CONSTRAINT uq_series_key UNIQUE ("key")
);
INSERT INTO "series" VALUES(1,'32eca264094e27e389d67b42a3f4d517dad7f65c0d3beb6232b22b7841243356','1c73b4f837b49284aacdac28598c767f68da139700939fcf29ef7dc6052ec00d','bert-1','gpu, graph','s','{"cell":"1c73b4f837b49284aacdac28598c767f68da139700939fcf29ef7dc6052ec00d","metric":"gpu, graph","unit":"s"}');
INSERT INTO "series" VALUES(2,'37fe8682003218ffdf43524d0dd82e4646566003dcd6c574f15a69206f1cbf84','cb7b0fffd805cbc961c91129e7a7337bcfa1ae5d79633c0a7edb5e243301c1d1','bert-0','gpu, graph','s','{"cell":"cb7b0fffd805cbc961c91129e7a7337bcfa1ae5d79633c0a7edb5e243301c1d1","metric":"gpu, graph","unit":"s"}');
CREATE TABLE session (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	name TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	"commit" TEXT NOT NULL, 
	CONSTRAINT pk_session PRIMARY KEY (id), 
	CONSTRAINT uq_session_key UNIQUE ("key")
);
INSERT INTO "session" VALUES(1,'5270ccf9a21a8191e465cd699dfe3e059fcb90f8287adc19f52d5f24b16abb17','run-0001',1700086400.0,'0000000000000000000000000000000000000001');
INSERT INTO "session" VALUES(2,'818c6e03c9b2ab73ad12eb8abbfeb2c40e35d2bbd03d9b5c7a87fad5863c35d9','run-0000',1700000000.0,'0000000000000000000000000000000000000000');
CREATE TABLE telemetry (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	session_id INTEGER NOT NULL, 
	cell_key VARCHAR(64) NOT NULL, 
	process INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	sm_clock INTEGER, 
	memory_clock INTEGER, 
	temperature INTEGER, 
	power FLOAT, 
	energy FLOAT, 
	held_back TEXT NOT NULL, 
	CONSTRAINT pk_telemetry PRIMARY KEY (id), 
	CONSTRAINT fk_telemetry_session_id FOREIGN KEY(session_id) REFERENCES session (id), 
	CONSTRAINT uq_telemetry_key UNIQUE ("key")
);
INSERT INTO "telemetry" VALUES(1,'some key',1,'some cell_key',1,1.0,1,1,1,1.0,1.0,'some held_back');
CREATE INDEX ix_series_cell_key ON series (cell_key);
CREATE INDEX ix_session_at ON session (at);
CREATE INDEX ix_comparison_series_id ON comparison (series_id);
CREATE INDEX ix_comparison_session_id ON comparison (session_id);
CREATE INDEX ix_record_session_id ON record (session_id, verdict);
CREATE INDEX ix_telemetry_session_id ON telemetry (session_id);
CREATE INDEX ix_measurement_session_id ON measurement (session_id);
COMMIT;
