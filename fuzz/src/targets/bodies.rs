//! JSON bodies, each in the type that its reader reads it in. The first line of an input names the
//! type.

use std::fmt::Debug;

use sekisho_github::lenient;
use sekisho_github::rest;
use sekisho_github::wire::{
    artifact, cache, error, feed, job, launch, message, oauth, oidc, results, run_service,
    scale_set, session, tenant,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{must, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "runner-bodies",
        reads: "what a runner is answered: sessions, messages, jobs, URLs, actions, routes",
        holds: "what is written is read again as the same, names in any case; secrets are not shown",
        seeds: || texts(RUNNER_SEEDS),
        words: WORDS,
        cost: 1,
        run: |input| kind(RUNNER, input),
    },
    Target {
        name: "hub-bodies",
        reads: "what the hub is told: jobs, steps, records, logs, artifacts, caches, registrations",
        holds: "what is written is read again as the same, names in any case",
        seeds: || texts(HUB_SEEDS),
        words: WORDS,
        cost: 1,
        run: |input| kind(HUB, input),
    },
    Target {
        name: "rest-bodies",
        reads: "REST's runs, jobs, runners, groups, tokens",
        holds: "what is written is read again as the same",
        seeds: || texts(REST_SEEDS),
        words: WORDS,
        cost: 1,
        run: |input| kind(REST, input),
    },
    Target {
        name: "scale-set-bodies",
        reads: "scale sets, sessions, queue messages and the job messages in them",
        holds: "size, depth and number of jobs keep their limits; each job is read or counted",
        seeds: || texts(SCALE_SET_SEEDS),
        words: WORDS,
        cost: 1,
        run: |input| {
            kind(SCALE_SETS, input);
            jobs(input);
        },
    },
];

const WORDS: &[&str] = &[
    "null",
    "true",
    "\"true\"",
    "\"7\"",
    "1e99",
    "-0",
    "[]",
    "{}",
    "[[",
    "{\"a\":",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"0001-01-01T00:00:00Z\"",
    "\"2030-01-01T00:00:00.123456789+02:00\"",
    "\"00000000-0000-0000-0000-000000000001\"",
    ",",
    ":",
    "\"id\":",
    "\"name\":",
    "\"value\":",
    "\"steps\":[",
    "\"type\":",
    "\u{feff}",
];

type Read = fn(&[u8]);

const RUNNER: &[(&str, Read)] = &[
    ("job", settles::<job::AgentJobRequestMessage>),
    ("message", settles::<message::TaskAgentMessage>),
    ("request", settles::<message::RunnerJobRequest>),
    ("cancellation", settles::<message::JobCancellation>),
    ("session", settles::<session::TaskAgentSession>),
    ("token", settles::<oauth::TokenResponse>),
    ("token-error", settles::<oauth::TokenError>),
    ("renewed", settles::<run_service::RenewJobResponse>),
    ("url", settles::<results::SignedUrlResponse>),
    ("resolved", settles::<launch::ResolvedActions>),
    ("unresolved", settles::<launch::ResolveErrors>),
    ("connection", settles::<tenant::ConnectionData>),
    ("migration", settles::<tenant::BrokerMigration>),
    ("log", settles::<tenant::LogReference>),
    ("error", settles::<error::ServiceError>),
    ("twirp-error", settles::<error::TwirpError>),
    ("id-token", settles::<oidc::IdTokenResponse>),
];

const HUB: &[(&str, Read)] = &[
    ("acquire", settles::<run_service::AcquireJob>),
    ("renew", settles::<run_service::RenewJob>),
    ("complete", settles::<run_service::CompleteJob>),
    ("steps", settles::<results::WorkflowStepsUpdate>),
    ("step", settles::<results::StepRequest>),
    ("records", settles::<tenant::Listed<tenant::TimelineRecord>>),
    ("completed", settles::<tenant::JobCompleted>),
    ("lock", settles::<tenant::LockRequest>),
    ("feed", settles::<feed::FeedFrame>),
    ("resolve", settles::<launch::ResolveActions>),
    ("acknowledge", settles::<message::Acknowledge>),
    ("session", settles::<session::TaskAgentSession>),
    ("artifact", settles::<artifact::CreateRequest>),
    ("finalize", settles::<artifact::FinalizeRequest>),
    ("list", settles::<artifact::ListRequest>),
    ("cache", settles::<cache::CreateRequest>),
    ("cached", settles::<cache::FinalizeRequest>),
    ("lookup", settles::<cache::LookupRequest>),
    ("access", settles::<Vec<cache::Access>>),
    ("register", settles::<scale_set::RegisterRequest>),
];

const REST: &[(&str, Read)] = &[
    ("runs", settles::<rest::WorkflowRuns>),
    ("run", settles::<rest::WorkflowRun>),
    ("job", settles::<rest::WorkflowJob>),
    ("runners", settles::<rest::Runners>),
    ("jit", settles::<rest::GenerateJitConfig>),
    ("groups", settles::<rest::RunnerGroups>),
    ("change", settles::<rest::RunnerGroupChange>),
    ("installation", settles::<rest::Installation>),
    ("contents", settles::<Vec<rest::ContentEntry>>),
    ("labels", settles::<rest::Labels>),
];

const SCALE_SETS: &[(&str, Read)] = &[
    ("set", settles::<scale_set::ScaleSet>),
    ("change", settles::<scale_set::ScaleSetRequest>),
    ("session", settles::<scale_set::Session>),
    ("message", settles::<scale_set::QueueMessage>),
    ("runner", settles::<scale_set::Counted<scale_set::RunnerReference>>),
    ("jit", settles::<scale_set::JitConfig>),
    ("exception", settles::<scale_set::Exception>),
    ("registration", settles::<scale_set::Registration>),
];

const RUNNER_SEEDS: &[&str] = &[
    r#"job
{"messageType":"RunnerJobRequest","plan":{"planId":"00000000-0000-0000-0000-000000000001","version":12},
"timeline":{"id":"00000000-0000-0000-0000-000000000001"},"jobId":"00000000-0000-0000-0000-000000000001",
"jobDisplayName":"build","requestId":7,"resources":{"endpoints":[{"name":"SystemVssConnection",
"url":"http://127.0.0.1:1/","authorization":{"scheme":"OAuth","parameters":{"AccessToken":"hunter2"}},
"data":{"FeedStreamUrl":"ws://127.0.0.1:1/"}}]},"contextData":{"github":{"t":2,"d":[{"k":"repository","v":"a/b"},
{"k":"n","v":{"t":4,"n":2.5}}]}},"mask":[{"type":"regex","value":"x"}],"environmentVariables":[],
"defaults":[],"variables":{"a":{"value":"plain","isSecret":true}},"fileTable":["f"],"steps":[{"type":"action",
"id":"00000000-0000-0000-0000-000000000001","contextName":"x","enabled":true,"condition":"success()",
"reference":{"type":"script"},"inputs":{"type":2,"map":[{"Key":"script","Value":{"type":3,"expr":"a.b"}}]},
"timeoutInMinutes":{"type":6,"num":5}}]}"#,
    "message\n{\"messageId\":\"7\",\"messageType\":\"RunnerJobRequest\",\"body\":\"{}\",\"iv\":null}",
    "request\n{\"id\":\"1\",\"runner_request_id\":\"r\",\"should_acknowledge\":true,\"run_service_url\":\"http://a/\"}",
    "cancellation\n{\"jobId\":\"00000000-0000-0000-0000-000000000001\",\"timeout\":\"00:05:00\"}",
    "session\n{\"sessionId\":\"00000000-0000-0000-0000-000000000001\",\"agent\":{\"id\":1,\"name\":\"n\"},\"encryptionKey\":{\"encrypted\":true,\"value\":\"QQ==\"}}",
    "token\n{\"access_token\":\"hunter2\",\"expires_in\":\"3600\"}",
    "renewed\n{\"lockedUntil\":\"2030-01-01T00:00:00Z\"}",
    "url\n{\"logs_url\":\"http://a/?sig=hunter2\",\"blob_storage_type\":\"BLOB_STORAGE_TYPE_AZURE\"}",
    "resolved\n{\"actions\":{\"a/b@v1\":{\"name\":\"a/b\",\"resolved_name\":\"a/b\",\"resolved_sha\":\"0\",\"tar_url\":\"http://a/\",\"authentication\":{\"token\":\"hunter2\"}}}}",
    "connection\n{\"locationServiceData\":{\"serviceDefinitions\":[{\"identifier\":\"x\",\"relativePath\":\"/a/{poolId}\"}]}}",
    "id-token\n{\"count\":1,\"value\":\"hunter2\"}",
];

const HUB_SEEDS: &[&str] = &[
    "acquire\n{\"jobMessageId\":\"7\",\"runnerOS\":\"Linux\",\"billingOwnerId\":null}",
    r#"complete
{"planId":"00000000-0000-0000-0000-000000000001","jobId":"00000000-0000-0000-0000-000000000001",
"conclusion":"succeeded","outputs":{"a":{"value":"b","isSecret":false}},"stepResults":[{
"external_id":"00000000-0000-0000-0000-000000000001","number":1,"name":"x","status":"completed",
"conclusion":"FAILED","started_at":"2030-01-01T00:00:00Z","annotations":[]}],"annotations":[{"level":"failure",
"message":"m","path":"a.c","startLine":1,"isInfrastructureIssue":false}],"telemetry":[]}"#,
    r#"steps
{"steps":[{"external_id":"00000000-0000-0000-0000-000000000001","number":1,"name":"x","status":3,
"started_at":"2030-01-01T00:00:00Z","conclusion":0}],"change_order":"7",
"workflow_run_backend_id":"00000000-0000-0000-0000-000000000001",
"workflow_job_run_backend_id":"00000000-0000-0000-0000-000000000001"}"#,
    r#"records
{"count":1,"value":[{"id":"00000000-0000-0000-0000-000000000001","type":"Task","name":"x","state":"Completed",
"result":"succeeded","order":1,"log":{"id":7},"issues":[{"type":"error","message":"m","data":{"line":"1"}}]}]}"#,
    "feed\n{\"count\":1,\"value\":[\"2030-01-01T00:00:00.0Z a\"],\"stepId\":\"00000000-0000-0000-0000-000000000001\",\"startLine\":1}",
    "resolve\n{\"actions\":[{\"action\":\"a/b\",\"version\":\"v1\",\"path\":\"c\"}]}",
    "artifact\n{\"workflow_run_backend_id\":\"00000000-0000-0000-0000-000000000001\",\"workflow_job_run_backend_id\":\"00000000-0000-0000-0000-000000000001\",\"name\":\"a\",\"version\":4,\"expires_at\":\"2030-01-01T00:00:00Z\"}",
    "finalize\n{\"workflow_run_backend_id\":\"00000000-0000-0000-0000-000000000001\",\"workflow_job_run_backend_id\":\"00000000-0000-0000-0000-000000000001\",\"name\":\"a\",\"size\":\"123\",\"hash\":\"sha256:00\"}",
    "lookup\n{\"key\":\"k\",\"restore_keys\":[\"k-\"],\"version\":\"v\"}",
    "cached\n{\"key\":\"k\",\"version\":\"v\",\"sizeBytes\":10}",
    "access\n[{\"Scope\":\"refs/heads/main\",\"Permission\":3}]",
    "register\n{\"url\":\"http://a/o/r\",\"runner_event\":\"register\"}",
];

const REST_SEEDS: &[&str] = &[
    r#"run
{"id":6,"name":"w","run_number":1,"run_attempt":1,"status":"completed","conclusion":"success","event":"push",
"head_sha":"0","head_branch":"main","path":"f.yml","workflow_id":9,"created_at":"2030-01-01T00:00:00Z",
"updated_at":"2030-01-01T00:00:00Z","repository":{"id":1,"name":"r","full_name":"o/r"}}"#,
    r#"job
{"id":5,"run_id":6,"run_attempt":1,"name":"build","status":"queued","conclusion":null,"labels":["a"],
"steps":[{"name":"x","status":"completed","conclusion":"success","number":1}],"head_sha":"0",
"created_at":"2030-01-01T00:00:00Z","started_at":"2030-01-01T00:00:00Z","completed_at":null,"runner_id":null}"#,
    "runners\n{\"total_count\":1,\"runners\":[{\"id\":23,\"name\":\"r\",\"os\":\"linux\",\"status\":\"online\",\"busy\":false,\"labels\":[{\"id\":0,\"name\":\"a\",\"type\":\"custom\"}]}]}",
    "jit\n{\"name\":\"r\",\"runner_group_id\":1,\"labels\":[\"a\"],\"work_folder\":\"_work\"}",
    "groups\n{\"total_count\":1,\"runner_groups\":[{\"id\":1,\"name\":\"Default\",\"visibility\":\"all\",\"default\":true}]}",
    "contents\n[{\"name\":\"f.yml\",\"path\":\"f.yml\",\"sha\":\"0\",\"size\":1,\"type\":\"file\"}]",
];

const SCALE_SET_SEEDS: &[&str] = &[
    "set\n{\"id\":4,\"name\":\"s\",\"runnerGroupId\":1,\"labels\":[{\"type\":\"System\",\"name\":\"s\"}],\"RunnerSetting\":{\"disableUpdate\":true},\"createdOn\":\"0001-01-01T00:00:00Z\"}",
    "session\n{\"sessionId\":\"00000000-0000-0000-0000-000000000001\",\"ownerName\":\"h\",\"messageQueueUrl\":\"http://a/\",\"messageQueueAccessToken\":\"hunter2\",\"statistics\":{\"totalAssignedJobs\":1}}",
    r#"message
{"messageId":100000001,"messageType":"RunnerScaleSetJobMessages","body":"[{\"messageType\":\"JobAssigned\",\"runnerRequestId\":7,\"jobId\":\"x\",\"queueTime\":\"2030-01-01T00:00:00Z\",\"requestLabels\":[\"a\"]}]","statistics":{}}"#,
    "exception\n{\"$id\":\"1\",\"message\":\"m\",\"typeName\":\"x.AgentExistsException\",\"typeKey\":\"k\",\"errorCode\":0}",
];

/// Runs the reader that the input's first line names.
fn kind(kinds: &[(&str, Read)], input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (name, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    for (_, read) in kinds.iter().filter(|(known, _)| known.as_bytes() == name) {
        read(body);
    }
}

/// A body that can be read can be written, and is then read as the same; so it is with its fields in
/// another letter case.
pub(super) fn settles<T: DeserializeOwned + Serialize + Debug>(body: &[u8]) {
    let Ok(read) = lenient::from_slice::<T>(body) else { return };
    let written = must(serde_json::to_value(&read), "a body is written");
    let again: T = must(lenient::from_value(written.clone()), "what is written is read");
    assert_eq!(must(serde_json::to_value(&again), "it is written again"), written);
    // Written as secrets are: in the fields of `WireSecret`s, which do not show it.
    if body.windows(7).filter(|bytes| *bytes == b"hunter2").count() == secrets(&written) {
        assert!(!format!("{read:?}").contains("hunter2"), "{read:?}");
    }
}

/// How often the seeds' secret is where secrets are.
fn secrets(value: &Value) -> usize {
    const SECRET_FIELDS: [&str; 6] = [
        "AccessToken",
        "access_token",
        "messageQueueAccessToken",
        "logs_url",
        "summary_url",
        "token",
    ];
    let is_secret = |value: &Value| value.as_str().is_some_and(|text| text.contains("hunter2"));
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, inner)| {
                let here = SECRET_FIELDS.contains(&name.as_str()) && is_secret(inner);
                usize::from(here) + secrets(inner)
            })
            .sum(),
        Value::Array(items) => items.iter().map(secrets).sum(),
        _ => 0,
    }
}

fn jobs(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let body = input.get(end..).unwrap_or_default();
    let Ok(message) = scale_set::read::<scale_set::QueueMessage>(body) else { return };
    let Ok(jobs) = message.jobs() else { return };
    assert!(jobs.messages.len() <= scale_set::MAX_JOBS);
    let statistics = message.statistics;
    let again = scale_set::QueueMessage::new(message.message_id, &jobs.messages, statistics).jobs();
    assert_eq!(must(again, "what is written is read").messages, jobs.messages);
}
