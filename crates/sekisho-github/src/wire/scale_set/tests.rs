use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn job(kind: JobMessageKind) -> JobMessage {
    JobMessage {
        kind,
        runner_request_id: 101,
        repository_name: "app".to_owned(),
        owner_name: "acme".to_owned(),
        job_id: "2f0c1a34-0000-0000-0000-000000000001".to_owned(),
        job_workflow_ref: "acme/app/.github/workflows/ci.yml@refs/heads/main".to_owned(),
        job_display_name: "build".to_owned(),
        workflow_run_id: 7,
        event_name: "push".to_owned(),
        request_labels: vec!["gpu-pool".to_owned()],
        queue_time: Some("2030-01-01T00:00:00Z".parse().unwrap()),
        scale_set_assign_time: None,
        runner_assign_time: None,
        finish_time: None,
        acquire_job_url: None,
        result: None,
        runner_id: None,
        runner_name: None,
    }
}

#[test]
fn what_is_written_is_what_peers_compare() {
    let completed = JobMessage {
        result: Some(JobResult::Canceled),
        runner_id: Some(0),
        runner_name: Some(String::new()),
        ..job(JobMessageKind::Completed)
    };
    let want = json!({
        "messageType": "JobCompleted", "runnerRequestId": 101, "repositoryName": "app",
        "ownerName": "acme", "jobId": "2f0c1a34-0000-0000-0000-000000000001",
        "jobWorkflowRef": "acme/app/.github/workflows/ci.yml@refs/heads/main",
        "jobDisplayName": "build", "workflowRunId": 7, "eventName": "push",
        "requestLabels": ["gpu-pool"], "queueTime": "2030-01-01T00:00:00Z",
        "scaleSetAssignTime": "0001-01-01T00:00:00Z", "runnerAssignTime": "0001-01-01T00:00:00Z",
        "finishTime": "0001-01-01T00:00:00Z", "result": "canceled", "runnerId": 0, "runnerName": "",
    });
    assert_eq!(serde_json::to_value(&completed).unwrap(), want);
    let message =
        QueueMessage::new(100_000_001, std::slice::from_ref(&completed), Statistics::default());
    assert_eq!(message.message_type, "RunnerScaleSetJobMessages");
    assert_eq!(message.jobs().unwrap(), Jobs { messages: vec![completed], unreadable: 0 });

    let request = ScaleSetRequest {
        name: Some("gpu".to_owned()),
        runner_group_id: Some(1),
        labels: Some(vec![Label::new("gpu")]),
        runner_setting: Some(RunnerSetting { disable_update: true }),
    };
    let want = json!({"name": "gpu", "runnerGroupId": 1, "labels": [{"type": "System", "name": "gpu"}],
        "RunnerSetting": {"disableUpdate": true}});
    assert_eq!(serde_json::to_value(&request).unwrap(), want);
    let change = ScaleSetRequest { runner_group_id: Some(3), ..Default::default() };
    assert_eq!(serde_json::to_value(&change).unwrap(), json!({"runnerGroupId": 3}));

    let error = serde_json::to_value(Exception::new(exception::SET_NOT_FOUND, "none")).unwrap();
    let name = "GitHub.Actions.Runtime.WebApi.RunnerScaleSetNotFoundException, GitHub.Actions.Runtime.WebApi";
    assert_eq!(error["typeName"], name);
    assert_eq!((&error["$id"], &error["innerException"]), (&json!("1"), &Value::Null));
}

#[test]
fn what_is_read_may_be_written_otherwise() {
    let text = "\u{feff}{\"ID\":\"4\",\"NAME\":\"gpu\",\"labels\":null,\"RunnerSetting\":{},\
                \"CreatedOn\":\"0001-01-01T00:00:00Z\",\"new\":[1]}";
    let set: ScaleSet = read(text.as_bytes()).unwrap();
    assert_eq!((set.id, set.name.as_str(), set.labels.len()), (4, "gpu", 0));
    assert_eq!((set.created_on, set.statistics), (None, None));

    let message: QueueMessage = read(br#"{"messageId":1,"statistics":null}"#).unwrap();
    assert_eq!(
        (message.jobs().unwrap(), message.statistics),
        (Jobs::default(), Statistics::default())
    );

    let body = r#"[{"MessageType":"JOBSTARTED","RunnerRequestId":"9","runnerId":null,"finishTime":"soon"},
        {"messageType":"JobRenamed","runnerRequestId":1}, {"messageType":"JobAssigned"}, 7]"#;
    let message = QueueMessage { body: body.to_owned(), ..message };
    let jobs = message.jobs().unwrap();
    let kinds: Vec<&str> = jobs.messages.iter().map(|job| job.kind.as_str()).collect();
    assert_eq!((kinds, jobs.unreadable), (vec!["JobStarted", "JobRenamed"], 2));
    assert_eq!(jobs.messages[0].finish_time, None);
    let result: JobResult = serde_json::from_value(json!("CANCELED")).unwrap();
    assert_eq!(result, JobResult::Canceled);
}

fn texts() -> impl Strategy<Value = String> {
    "[ -~é\u{1f600}]{0,20}"
}

prop_compose! {
    fn jobs()(kind in prop_oneof![Just("JobAvailable"), Just("JobAssigned"), Just("JobStarted"), Just("JobCompleted"), Just("x")],
              id in any::<i64>(), run in any::<i64>(), name in texts(), labels in prop::collection::vec(texts(), 0..4),
              at in proptest::option::of(0i64..4_000_000_000), result in proptest::option::of(texts()), runner in proptest::option::of(any::<i64>()))
        -> JobMessage {
        JobMessage {
            runner_request_id: id,
            workflow_run_id: run,
            job_display_name: name.clone(),
            request_labels: labels,
            queue_time: at.map(|at| Timestamp::from_second(at).unwrap()),
            finish_time: at.map(|at| Timestamp::from_second(at).unwrap()),
            result: result.map(JobResult::from),
            runner_id: runner,
            runner_name: runner.map(|_| name),
            ..job(JobMessageKind::from(kind.to_owned()))
        }
    }
}

proptest! {
    #[test]
    fn job_messages_come_back_as_they_went(jobs in prop::collection::vec(jobs(), 0..5), id in any::<i64>()) {
        let message = QueueMessage::new(id, &jobs, Statistics::default());
        let bytes = serde_json::to_vec(&message).unwrap();
        let back: QueueMessage = read(&bytes).unwrap();
        prop_assert_eq!(&back, &message);
        prop_assert_eq!(back.jobs().unwrap(), Jobs { messages: jobs, unreadable: 0 });
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read::<QueueMessage>(&bytes);
        let _ = read::<Session>(&bytes);
        let _ = read::<Registration>(&bytes);
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let _ = QueueMessage { message_id: 1, message_type: String::new(), body, statistics: Statistics::default() }.jobs();
    }

    #[test]
    fn a_cut_body_is_refused_and_never_half_read(jobs in prop::collection::vec(jobs(), 1..3), at in any::<prop::sample::Index>()) {
        let message = QueueMessage::new(1, &jobs, Statistics::default());
        let bytes = serde_json::to_vec(&message).unwrap();
        let cut = at.index(bytes.len());
        prop_assert!(read::<QueueMessage>(&bytes[..cut]).is_err());
    }

    #[test]
    fn any_letter_case_reads_the_same(jobs in prop::collection::vec(jobs(), 1..3), upper in any::<bool>()) {
        let recase = |value: &Value| -> Value {
            let object = value.as_object().unwrap();
            let case = |key: &String| if upper { key.to_uppercase() } else { key.to_lowercase() };
            Value::Object(object.iter().map(|(key, value)| (case(key), value.clone())).collect())
        };
        for job in jobs {
            let value = recase(&serde_json::to_value(&job).unwrap());
            let back: JobMessage = read(&serde_json::to_vec(&value).unwrap()).unwrap();
            prop_assert_eq!(back, job);
        }
    }
}
