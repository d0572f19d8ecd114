//! Generates the Rust code of the protocol, with a `.proto` compiler written in Rust.

const SERVICE: &str = "proto/apache/rocketmq/v2/service.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile([SERVICE], ["proto"])?;
    tonic_prost_build::configure()
        // Bodies are shared with the buffer they arrived in, never copied.
        .bytes(".apache.rocketmq.v2.Message.body")
        // The user of this crate makes the connections.
        .build_transport(false)
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(files)?;
    Ok(())
}
