//! Registries for builds: results are pushed and caches fetched with the build's credentials.

use std::collections::BTreeMap;

use cooper_builder::build::Registries;
use cooper_registry::client::{Client, Credentials, Progress};
use cooper_registry::digest::Digest;
use cooper_registry::oci::Descriptor;
use cooper_registry::reference::ImageRef;
use tokio::runtime::Handle;

use super::Engine;

/// Pushes to and fetches from registries.
#[derive(Debug)]
pub(crate) struct ClientRegistries {
    pub(crate) engine: Engine,
    /// By registry host.
    pub(crate) credentials: BTreeMap<String, Credentials>,
    /// The runtime that drives the client's sockets; the builder's threads are outside of it.
    pub(crate) runtime: Handle,
}

impl ClientRegistries {
    fn client(&self, name: &ImageRef) -> Result<(Client, Credentials), String> {
        let credentials = self.credentials.get(name.repo.domain()).cloned();
        let client = self.engine.client().map_err(|error| error.to_string())?;
        Ok((client, credentials.unwrap_or(Credentials::Anonymous)))
    }
}

impl Registries for ClientRegistries {
    fn manifest(&self, name: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        let (client, credentials) = self.client(name)?;
        self.runtime
            .block_on(client.fetch_manifest(name, credentials))
            .map_err(|error| error.to_string())
    }

    fn blob(&self, name: &ImageRef, descriptor: &Descriptor) -> Result<(), String> {
        let (client, credentials) = self.client(name)?;
        self.runtime
            .block_on(client.fetch_blob(name, descriptor, credentials))
            .map_err(|error| error.to_string())
    }

    fn push(
        &self,
        name: &ImageRef,
        manifest: &Digest,
        progress: &(dyn Fn(String) + Sync),
    ) -> Result<(), String> {
        let (client, credentials) = self.client(name)?;
        let wanted = ImageRef {
            digest: Some(manifest.clone()),
            ..name.clone()
        };
        let (send, lines) = std::sync::mpsc::channel();
        // Called while the runtime runs, where nothing may wait for a slow client.
        let report = move |event: Progress| {
            if let Some(line) = line(&event) {
                // The receiver outlives the push.
                let _ = send.send(line);
            }
        };
        let wanted = &wanted;
        let result = std::thread::scope(|scope| {
            scope.spawn(|| lines.into_iter().for_each(progress));
            // Takes the sender along, so that the lines end with the push.
            self.runtime
                .block_on(async move { client.push(wanted, credentials, &report).await })
        });
        let pushed = result.map_err(|error| format!("failed to push {}: {error}", name.familiar()))?;
        progress(format!("pushed {} {}\n", name.familiar(), pushed.digest));
        Ok(())
    }
}

/// What is worth a line; byte counts are not.
fn line(event: &Progress) -> Option<String> {
    let (what, blob) = match event {
        Progress::Exists(blob) => ("exists", blob),
        Progress::Mounted(blob) => ("mounted", blob),
        Progress::Pushed(blob) => ("pushed", blob),
        Progress::Note(text) => return Some(format!("{text}\n")),
        _ => return None,
    };
    Some(format!("{what} {} {} bytes\n", blob.digest, blob.size))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::sync::Mutex;
    use std::time::Duration;

    use cooper_builder::build::{Compression, CompressionKind};
    use cooper_builder::export::convert;
    use cooper_registry::oci::{ImageConfig, RootFs, RunConfig};
    use cooper_registry::store::Store;

    use super::*;
    use crate::engine::EngineConfig;

    const LAYER_BYTES: usize = 3 << 20;

    fn engine(dir: &std::path::Path) -> Engine {
        Engine::open(EngineConfig {
            data_root: dir.join("data"),
            exec_root: dir.join("exec"),
            config_file: None,
        })
        .unwrap()
    }

    /// An image of one layer with a file that hardly compresses.
    fn image(store: &Store) -> Digest {
        let mut state = 1u64;
        let noise: Vec<u8> = (0..LAYER_BYTES)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u8::try_from(state >> 56).unwrap()
            })
            .collect();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(noise.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "noise", noise.as_slice()).unwrap();
        let layer = store
            .import_layer(&mut tar.into_inner().unwrap().as_slice())
            .unwrap();
        let host = cooper_registry::oci::Platform::host();
        let config = ImageConfig {
            architecture: host.architecture,
            os: host.os,
            os_version: None,
            variant: None,
            author: None,
            created: None,
            config: RunConfig::default(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: vec![layer.diff_id.clone()],
            },
            history: Vec::new(),
            inline_cache: None,
        };
        store
            .put_image(&config, &[store.layer_descriptor(&layer)], &[])
            .unwrap()
    }

    fn push(engine: &Engine, name: &str, manifest: &Digest) -> Vec<String> {
        let registries = ClientRegistries {
            engine: engine.clone(),
            credentials: BTreeMap::new(),
            runtime: Handle::current(),
        };
        let name: ImageRef = name.parse().unwrap();
        engine.store().unwrap().tag_image(manifest, &name).unwrap();
        let lines = Mutex::new(Vec::new());
        let tell = |line: String| lines.lock().unwrap().push(line);
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| {
                registries.push(&name, manifest, &tell)?;
                // What was pushed is found again, its blobs too.
                let (found, _) = registries.manifest(&name)?.ok_or("not there")?;
                registries.blob(&name, &found).map(|()| found)
            });
            assert_eq!(pushed.join().unwrap().unwrap().digest, *manifest);
        });
        lines.into_inner().unwrap()
    }

    /// A registry over the store that the image is in has all of it already.
    #[tokio::test(flavor = "multi_thread")]
    async fn own_registry_moves_nothing() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::serve_registry(
            engine.clone(),
            listener,
            std::future::pending(),
        ));
        let id = image(engine.store().unwrap());
        let lines = tokio::task::block_in_place(|| push(&engine, &format!("{address}/team/out:v1"), &id));
        let moved: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with("pushed sha256:"))
            .collect();
        // The manifest alone.
        assert_eq!(moved.len(), 1, "{lines:?}");
        assert_eq!(
            lines.iter().filter(|line| line.starts_with("mounted ")).count(),
            2,
            "{lines:?}"
        );
    }

    struct Registry(Child);

    impl Drop for Registry {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// docker-registry takes what we compress, and skopeo reads it back to the byte.
    #[tokio::test(flavor = "multi_thread")]
    async fn docker_registry_and_skopeo() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let missing = ["docker-registry", "skopeo"].into_iter().find(|program| {
            Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .is_err()
        });
        if let Some(program) = missing {
            eprintln!("skipped: no {program}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            dir.path().join("storage").display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let _registry = Registry(child.unwrap());
        let mut tries = 0;
        while std::net::TcpStream::connect(address).is_err() {
            tries += 1;
            assert!(tries < 1000, "docker-registry does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let engine = engine(dir.path());
        let store = engine.store().unwrap();
        let id = image(store);
        let lease = store.lease().unwrap();
        for kind in [
            CompressionKind::None,
            CompressionKind::Gzip,
            CompressionKind::Zstd,
        ] {
            let compression = Compression {
                kind,
                ..Compression::default()
            };
            let converted = convert(store, &lease, &id, Some(&compression), false).unwrap();
            let bytes = store.read_blob(&converted, 1 << 20).unwrap();
            let media_type = cooper_registry::oci::media_type::OCI_MANIFEST;
            store.put_manifest(None, media_type, &bytes, None, &[]).unwrap();
            let name = format!("{address}/team/out:{kind:?}");
            let lines = tokio::task::block_in_place(|| push(&engine, &name, &converted));
            assert!(
                lines.iter().any(|line| line.contains(&converted.to_string())),
                "{lines:?}"
            );
            let target = dir.path().join(format!("{kind:?}"));
            let copied = Command::new("skopeo")
                .args(["--insecure-policy", "copy", "-q", "--src-tls-verify=false"])
                .arg(format!("docker://{name}"))
                .arg(format!("dir:{}", target.display()))
                .output()
                .unwrap();
            assert!(
                copied.status.success(),
                "{kind:?}: {}",
                String::from_utf8_lossy(&copied.stderr)
            );
            assert_eq!(std::fs::read(target.join("manifest.json")).unwrap(), bytes);
        }
    }
}
