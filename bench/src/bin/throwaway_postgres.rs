//! A Postgres for one comparison, with the gateway's schema in it. It tells
//! where it is in a line of JSON, and is gone when its standard input ends.

use std::{fs, io::Read as _};

use anyhow::Context as _;
use notify_gateway::{schema, throwaway::Postgres};
use tokio_postgres::NoTls;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let postgres = Postgres::start(&["max_connections=120"])?;
    let url = postgres.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(&schema::sql("notifications")).await.context("schema.sql")?;
    let pid = fs::read_to_string(postgres.data_directory().join("postmaster.pid"))?;
    let pid: u32 = pid.lines().next().context("an empty postmaster.pid")?.parse()?;
    let version: String = client.query_one("SHOW server_version", &[]).await?.get(0);
    // Nobody is in it, so that it can be a template.
    drop(client);
    connection.await??;
    let psql = postgres.binaries().join("psql");
    println!("{}", serde_json::json!({ "url": url, "pid": pid, "version": version, "psql": psql }));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
