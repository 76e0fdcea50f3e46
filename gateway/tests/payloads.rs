//! Anyone who may connect to the database may type into the channel.

use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually};

#[tokio::test]
async fn what_is_typed_into_the_channel_by_hand_is_counted_and_harms_nobody() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let mut stream = gateway.connect(user).await;

    for typed in [
        "hello",
        "{",
        "{}",
        "null",
        "[1,2,3]",
        r#"{"xact_id":"1","seq":1,"user_id":"","event":"notification","data":{}}"#,
        r#"{"xact_id":1,"seq":1,"user_id":"00000000-0000-0000-0000-000000000000","event":"a","data":{}}"#,
        &format!(r#"{{"xact_id":"1","seq":1,"user_id":"{user}","event":"a","data":"text"}}"#),
        &"[".repeat(7999),
    ] {
        database.client.execute("SELECT pg_notify('notifications', $1)", &[&typed]).await.unwrap();
    }
    // A ring is a trigger's, and no mistake.
    database.psql(r#"NOTIFY notifications, '{"xact_id":"7"}'"#).await;
    database.insert(user, "a real one").await;

    assert_eq!(stream.next().await.title(), "a real one");
    let errors = async |reason: &str| {
        gateway.metric(&format!("notify_gateway_payload_errors_total{{reason=\"{reason}\"}}")).await
    };
    eventually("all nine are counted", async || {
        errors("not_json").await + errors("not_a_row").await > 8.5
    })
    .await;
}
