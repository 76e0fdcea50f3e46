//! What an operator sees of deliveries and of the process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::support::{Database, TestGateway, eventually};

const COUNT: &str = "notify_gateway_delivery_seconds_count";
const SUM: &str = "notify_gateway_delivery_seconds_sum";

#[tokio::test]
async fn a_live_row_is_measured_from_its_making_and_a_replayed_one_is_not() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let user = Uuid::new_v4();
    let cursor = gateway.cursor(user).await;
    let mut stream = gateway.connect(user).await;
    database
        .psql(&format!(
            "BEGIN;
             INSERT INTO notifications (user_id, title, message) VALUES ('{user}', 'slow', '');
             SELECT pg_sleep(0.3);
             COMMIT"
        ))
        .await;
    assert_eq!(stream.titles(1).await.0, ["slow"]);
    eventually("it is measured", async || gateway.metric(COUNT).await > 0.5).await;
    assert!((gateway.metric(COUNT).await - 1.0).abs() < 0.1);
    let sum = gateway.metric(SUM).await;
    assert!((0.3..10.0).contains(&sum), "{sum}");

    let mut resumed = gateway.resume(user, &cursor).await;
    assert_eq!(resumed.titles(1).await.0, ["slow"]);
    // The next one shows that the replayed one would have been counted by now.
    database.insert(user, "quick").await;
    assert_eq!(resumed.titles(1).await.0, ["quick"]);
    assert_eq!(stream.titles(1).await.0, ["quick"]);
    eventually("both streams' are", async || gateway.metric(COUNT).await > 2.5).await;
    assert!((gateway.metric(COUNT).await - 3.0).abs() < 0.1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_process_is_measured_as_every_client_library_does_it() {
    let database = Database::new().await;
    let gateway = TestGateway::start(&database.url, &[]).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let started = gateway.metric("process_start_time_seconds").await;
    assert!((0.0..Duration::from_secs(24 * 3600).as_secs_f64()).contains(&(now - started)));
    let open = gateway.metric("process_open_fds").await;
    assert!(open > 5.0 && open < gateway.metric("process_max_fds").await);
    assert!(gateway.metric("process_resident_memory_bytes").await > 1e6);
    assert!(gateway.metric("process_virtual_memory_bytes").await > 1e6);
    assert!(gateway.metric("process_cpu_seconds_total").await > 0.0);
    assert!(gateway.metric("process_threads").await > 0.5);
}
