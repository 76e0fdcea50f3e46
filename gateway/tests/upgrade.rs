//! An upgrade at noon: two gateways behind nginx are replaced one after the other while rows are
//! committed and people stay connected.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use notify_gateway::http::STREAM_PATH;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::support::{Database, EventSource, Nginx, Page, Process, connect, request, token};

const STREAMS: usize = 2_000;
const DRAIN: Duration = Duration::from_secs(4);

/// What a client tells.
enum Told {
    /// It has begun, or come back after its stream had been closed.
    Connected { after_closing: bool },
    /// A row came.
    Row { user: Uuid, title: String },
}

/// A browser's `EventSource`: it comes back when it was told to, with the last id.
async fn client(address: SocketAddr, user: Uuid, tell: mpsc::UnboundedSender<Told>) {
    let bearer = format!("Bearer {}", token(user));
    let mut cursor = String::new();
    let mut after_closing = false;
    loop {
        let mut headers = vec![("authorization", bearer.as_str()), ("accept", "text/event-stream")];
        headers.extend((!cursor.is_empty()).then_some(("last-event-id", cursor.as_str())));
        let answer = request(address, "GET", STREAM_PATH, &headers).await;
        assert_eq!(answer.status, 200, "no request is refused");
        let mut stream = EventSource::of(answer);
        let mut retry = None;
        // Rows may be seconds apart.
        while let Some(event) = stream.next_within(Duration::from_secs(120)).await {
            retry = event.retry.or(retry);
            match event.name.as_str() {
                "connected" => drop(tell.send(Told::Connected { after_closing })),
                "notification" => drop(tell.send(Told::Row { user, title: event.title() })),
                "closing" => assert_eq!(event.json()["reason"], "shutdown"),
                "heartbeat" => {}
                other => panic!("{other} says that something was lost"),
            }
            cursor = event.id.unwrap_or(cursor);
        }
        after_closing = true;
        let retry = retry.expect("a gateway's stream, not the proxy's stand-in");
        tokio::time::sleep(Duration::from_millis(retry)).await;
    }
}

/// Commits rows of all users in turn, until it is told to stop; how many it were.
async fn write(url: String, users: Arc<Vec<Uuid>>, stop: watch::Receiver<bool>) -> usize {
    let writer = connect(&url).await;
    let insert = "INSERT INTO notifications (user_id, title, message) VALUES ($1, $2, '')";
    let mut written = 0;
    while !*stop.borrow() || written % users.len() != 0 {
        let user = users[written % users.len()];
        writer.execute(insert, &[&user, &written.to_string()]).await.unwrap();
        written += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_are_replaced_under_two_thousand_streams_and_nothing_is_lost() {
    let database = Database::new().await;
    let flags = ["--drain", "4s", "--connect-rate", "0", "--trusted-proxies", "127.0.0.0/8"];
    let mut first = Process::start(&database.url, &flags).await;
    let mut second = Process::start(&database.url, &flags).await;
    let page = Page::serve("", None).await;
    let (one, other) = (first.address, second.address);
    let before_both = |config: &str| {
        config
            .replace("events {}", "worker_rlimit_nofile 10000; events { worker_connections 9000; }")
            .replace(&format!("http://{one};"), "http://gateways;")
            .replace(
                "server {\n",
                &format!(
                    "upstream gateways {{ least_conn; server {one}; server {other}; }} server {{\n"
                ),
            )
    };
    let Some(nginx) = Nginx::start_but(one, page.address(), before_both).await else { return };

    let users: Arc<Vec<Uuid>> = Arc::new((0..STREAMS).map(|_| Uuid::new_v4()).collect());
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut clients = tokio::task::JoinSet::new();
    for chunk in users.chunks(100) {
        for user in chunk {
            clients.spawn(client(nginx.address, *user, tell.clone()));
        }
        // As people arrive: not all in one instant.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(tell);
    let mut rows: HashMap<Uuid, Vec<String>> = HashMap::new();
    let mut connected = 0;
    while connected < STREAMS {
        match told.recv().await.unwrap() {
            Told::Connected { .. } => connected += 1,
            Told::Row { .. } => unreachable!("nothing has been written"),
        }
    }
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(write(database.owner_url.clone(), Arc::clone(&users), stopped));

    // When streams come back, from the SIGTERM of their gateway on.
    let mut returns = Vec::new();
    let mut note = |told: Told, stopped_at: Instant| match told {
        Told::Connected { after_closing: true } => returns.push(stopped_at.elapsed()),
        Told::Connected { .. } => {}
        Told::Row { user, title } => rows.entry(user).or_default().push(title),
    };
    for process in [&mut first, &mut second] {
        let address = process.address.to_string();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let here = process.metric("sse_connections_total").await as usize;
        assert!(here > STREAMS / 3, "{here} of {STREAMS} streams are at {address}");
        let stopped_at = Instant::now();
        process.signal(Signal::SIGTERM);
        assert_eq!(process.ended().await.code(), Some(0));
        let flags = [&flags[..], &["--bind", &address]].concat();
        *process = Process::start(&database.url, &flags).await;
        // All are back, on the other or on the new one.
        let mut missing = here;
        while missing > 0 {
            let next = told.recv().await.unwrap();
            missing -= usize::from(matches!(next, Told::Connected { .. }));
            note(next, stopped_at);
        }
    }
    stop.send(true).unwrap();
    let written = writing.await.unwrap();

    let mut arrived: usize = rows.values().map(Vec::len).sum();
    let mut note = |told| {
        if let Told::Row { user, title } = told {
            rows.entry(user).or_default().push(title);
            return 1;
        }
        0
    };
    while arrived < written {
        let next = tokio::time::timeout(crate::support::PATIENCE, told.recv()).await;
        arrived += note(next.expect("no row is lost").unwrap());
    }
    // What came twice would come before these.
    let everybody = "INSERT INTO notifications (user_id, title, message)
                     SELECT user_id, 'last', '' FROM (SELECT DISTINCT user_id FROM notifications) AS u";
    database.client.batch_execute(everybody).await.unwrap();
    let mut last = 0;
    while last < STREAMS {
        last += note(told.recv().await.unwrap());
    }
    for (n, user) in users.iter().enumerate() {
        let mut expected: Vec<String> =
            (n..written).step_by(STREAMS).map(|number| number.to_string()).collect();
        expected.push("last".to_owned());
        assert_eq!(rows[user], expected, "each once and in order");
    }
    assert_eq!(clients.len(), STREAMS);
    assert!(clients.try_join_next().is_none(), "no client has failed");

    assert_eq!(nginx.stood_in(), 0, "one of the two was always there");

    // From one second on, spread over the drain: each quarter of it has about a quarter.
    let quarter = DRAIN / 4;
    let mut quarters = [0_usize; 4];
    for at in &returns {
        let since_least = at.saturating_sub(Duration::from_secs(1)).as_secs_f64();
        let index = (since_least / quarter.as_secs_f64()).floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 3")]
        let index = (index as usize).min(3);
        quarters[index] += 1;
    }
    println!("{written} rows; streams back in each quarter of the drain: {quarters:?}");
    let least = returns.len() / 10;
    assert!(quarters.iter().all(|count| *count > least), "{quarters:?}");
}
