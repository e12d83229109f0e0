//! What the instructions of a stage have amounted to so far.

use cooper_registry::oci::{History, ImageConfig, Platform, RootFs, RunConfig};

/// The PATH of images that do not set one, as BuildKit's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An instruction as the image's history will show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryEntry {
    pub(crate) created_by: String,
    /// The step that makes its layer.
    pub(crate) layer: Option<usize>,
}

/// Config and variables at one point of a stage.
#[derive(Debug, Clone)]
pub(crate) struct StageState {
    /// The config with the base image's history; its layers are those of the base.
    pub(crate) image: ImageConfig,
    /// Number of layers of the base image.
    pub(crate) base_layers: usize,
    /// What instructions added to the history.
    pub(crate) history: Vec<HistoryEntry>,
    /// The step with the current root file system; none while it is empty.
    pub(crate) rootfs: Option<usize>,
    /// Variables that expansion and RUN see: the base's, ENV and ARG, the last one of a name counts.
    env: Vec<(String, String)>,
    /// Declared arguments, in order, repeated ones too.
    pub(super) build_args: Vec<(String, Option<String>)>,
    /// CMD was given in this stage.
    pub(super) cmd_set: bool,
}

impl StageState {
    /// `FROM scratch`
    pub(crate) fn scratch(platform: &Platform) -> Self {
        let platform = platform.clone();
        Self::with(ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            os_version: platform.os_version,
            variant: platform.variant,
            author: None,
            created: None,
            config: RunConfig {
                working_dir: "/".to_owned(),
                ..RunConfig::default()
            },
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: Vec::new(),
            },
            history: Vec::new(),
            inline_cache: None,
        })
    }

    /// `FROM` an image whose layers the step `rootfs` provides.
    pub(crate) fn from_image(config: &ImageConfig, rootfs: usize) -> Self {
        let mut image = config.clone();
        image.created = None;
        let layers = image.rootfs.diff_ids.len();
        // History must account for all layers, or ours would be shown for the base's.
        let known = image.history.iter().filter(|entry| !entry.empty_layer).count();
        image.history.extend((known..layers).map(|_| History {
            created: config.created.clone(),
            comment: "buildkit.exporter.image.v0".to_owned(),
            ..History::default()
        }));
        if !image.config.working_dir.is_empty() {
            image.config.working_dir = super::values::clean_path(&format!("/{}", image.config.working_dir));
        }
        let mut state = Self::with(image);
        state.rootfs = Some(rootfs).filter(|_| layers > 0);
        state
    }

    /// `FROM` files that are no image: their layer is the step `rootfs`, which no history tells of.
    pub(crate) fn from_files(platform: &Platform, rootfs: usize) -> Self {
        Self {
            rootfs: Some(rootfs),
            base_layers: 1,
            ..Self::scratch(platform)
        }
    }

    /// What the image is for.
    pub(crate) fn platform(&self) -> Platform {
        let image = &self.image;
        let platform = Platform {
            architecture: image.architecture.clone(),
            os: image.os.clone(),
            os_version: image.os_version.clone(),
            variant: image.variant.clone(),
        };
        platform.normalized()
    }

    /// `FROM` an earlier stage in its final state. Its ENV wins again over its ARG, as for any base.
    pub(crate) fn from_stage(stage: &Self) -> Self {
        let mut state = stage.clone();
        state.cmd_set = false;
        state.image.config.on_build = None;
        for pair in state.image.config.env.iter().flatten() {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            set(&mut state.env, key, value);
        }
        state
    }

    fn with(mut image: ImageConfig) -> Self {
        let list = image.config.env.get_or_insert_default();
        if !list.iter().any(|pair| pair.starts_with("PATH=")) {
            list.push(format!("PATH={DEFAULT_PATH}"));
        }
        let mut env = Vec::new();
        for pair in list {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            set(&mut env, key, value);
        }
        Self {
            base_layers: image.rootfs.diff_ids.len(),
            image,
            history: Vec::new(),
            rootfs: None,
            env,
            build_args: Vec::new(),
            cmd_set: false,
        }
    }

    /// Value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }

    /// The variables as `K=V`.
    pub(crate) fn environment(&self) -> Vec<String> {
        self.env
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }

    /// Names of all variables, in the order they were set first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(|(key, _)| key.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.env.iter().any(|(key, _)| key == name)
    }

    /// ARG: seen by this stage and those built on it, not by containers.
    pub(super) fn set_arg(&mut self, name: &str, value: &str) {
        set(&mut self.env, name, value);
    }

    /// ENV: the place of a known name in the list is kept.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        set(&mut self.env, name, value);
        let list = self.image.config.env.get_or_insert_default();
        let pair = format!("{name}={value}");
        match list.iter_mut().find(|pair| pair.split('=').next() == Some(name)) {
            Some(old) => *old = pair,
            None => list.push(pair),
        }
    }

    /// Appends to the history what made no layer.
    pub(super) fn note(&mut self, created_by: String) {
        self.history.push(HistoryEntry {
            created_by,
            layer: None,
        });
    }

    /// Appends to the history what made the layer of `step`.
    pub(super) fn note_layer(&mut self, created_by: String, step: usize) {
        self.history.push(HistoryEntry {
            created_by,
            layer: Some(step),
        });
        self.rootfs = Some(step);
    }

    /// The working directory, absolute.
    pub(super) fn cwd(&self) -> &str {
        let dir = &self.image.config.working_dir;
        if dir.is_empty() { "/" } else { dir }
    }

    /// Arguments in effect as a prefix of the history of RUN: `|2 A=1 B=2`.
    pub(super) fn args_prefix(&self) -> Option<String> {
        let mut shown: Vec<(&str, String)> = Vec::new();
        for (name, value) in &self.build_args {
            let value = self.get(name).or_else(|| value.clone()).unwrap_or_default();
            match shown.iter_mut().find(|(key, _)| key == name) {
                Some((_, old)) => *old = value,
                None => shown.push((name, value)),
            }
        }
        if shown.is_empty() {
            return None;
        }
        let list: Vec<String> = shown
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        Some(format!("|{} {}", list.len(), list.join(" ")))
    }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(key, _)| key == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}
