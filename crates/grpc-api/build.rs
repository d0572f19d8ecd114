//! Generates the Rust form of the protocol, with a compiler of `.proto` files that is itself Rust.

const SERVICE: &str = "proto/apache/rocketmq/v2/service.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile([SERVICE], ["proto"])?;
    tonic_prost_build::configure()
        // Bodies are shared with the buffer they arrived in, never copied.
        .bytes(".apache.rocketmq.v2.Message.body")
        // How a connection is made is the business of whoever uses this crate.
        .build_transport(false)
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(files)?;
    Ok(())
}
