// SPDX-License-Identifier: Apache-2.0
//! Compiles the contract without a system protoc, and turns the `access` option of every method into the policy table.
//!
//! A method without the option stops the build: nobody can forget to say who may call it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

const ROOT: &str = "windlass/v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(ROOT)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;

    std::fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    write_policy(&compiler.descriptor_pool(), &out.join("policy.rs"))?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallBuffers")
        .bytes(".")
        .btree_map(".")
        .out_dir(&out)
        .compile_fds(prost_types(&compiler)?)?;
    Ok(())
}

/// The descriptors as the generator's own prost-types understands them.
fn prost_types(compiler: &protox::Compiler) -> Result<prost_types::FileDescriptorSet, prost::DecodeError> {
    prost_types::FileDescriptorSet::decode(compiler.encode_file_descriptor_set().as_slice())
}

fn write_policy(pool: &DescriptorPool, path: &Path) -> Result<(), Box<dyn Error>> {
    let access = pool.get_extension_by_name("windlass.v1.access").ok_or("access.proto defines no `access` option")?;
    let mut rows = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options = method.options();
        if !options.has_extension(&access) {
            return Err(format!("{} has no `access` option: say who may call it", method.full_name()).into());
        }
        let value = options.get_extension(&access);
        let row = value.as_message().ok_or("`access` is not a message")?;
        rows.push(policy_row(&method, row)?);
    }
    rows.sort();
    let mut text = String::from(
        "/// Who may call what, one row per method, sorted by path. Generated from the `access` options.\n",
    );
    writeln!(text, "pub static POLICY: &[MethodPolicy] = &[")?;
    for row in rows {
        writeln!(text, "    {row},")?;
    }
    writeln!(text, "];")?;
    std::fs::write(path, text)?;
    Ok(())
}

fn policy_row(method: &MethodDescriptor, access: &DynamicMessage) -> Result<String, Box<dyn Error>> {
    let number = access.get_field_by_name("role").and_then(|v| v.as_enum_number()).unwrap_or_default();
    let caller = match number {
        1 => "Caller::Anyone",
        2 => "Caller::Agent",
        3 => "Caller::Operator(OperatorRole::Viewer)",
        4 => "Caller::Operator(OperatorRole::Operator)",
        5 => "Caller::Operator(OperatorRole::Admin)",
        other => return Err(format!("{}: role {other} is unknown", method.full_name()).into()),
    };
    let change = access.get_field_by_name("change").as_deref().and_then(Value::as_bool).unwrap_or_default();
    Ok(format!(
        "MethodPolicy {{ path: \"/{}/{}\", caller: {caller}, change: {change} }}",
        method.parent_service().full_name(),
        method.name(),
    ))
}
