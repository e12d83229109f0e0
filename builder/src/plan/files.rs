//! COPY and ADD.

use super::evaluate::Evaluator;
use super::state::StageState;
use super::step::{Action, CopyAction, CopyFrom, CopySource, Inline};
use super::values::destination;
use crate::build::Error;
use crate::dockerfile::{Add, Copy, Heredoc, Instruction, Word, process_heredoc};
use crate::fetch::{Remote, redact};
use crate::ignore::Patterns;
use crate::tree::Chmod;

/// What COPY and ADD have in common.
struct Files<'a> {
    keyword: &'static str,
    sources: &'a [Word],
    heredocs: &'a [Heredoc],
    dest: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    from: CopyFrom,
    link: bool,
    parents: bool,
    excludes: &'a [Word],
    checksum: Option<&'a Word>,
    keep_git_dir: Option<bool>,
    /// `--unpack`; COPY never does.
    unpack: Option<bool>,
}

impl Evaluator<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), Error> {
        let from = self.from(0).unwrap_or(CopyFrom::Context);
        self.files(
            state,
            instruction,
            &Files {
                keyword: "COPY",
                sources: &copy.sources,
                heredocs: &copy.heredocs,
                dest: &copy.dest,
                chown: copy.chown.as_ref(),
                chmod: copy.chmod.as_ref(),
                from,
                link: copy.link,
                parents: copy.parents,
                excludes: &copy.excludes,
                checksum: None,
                keep_git_dir: None,
                unpack: Some(false),
            },
        )
    }

    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), Error> {
        self.files(
            state,
            instruction,
            &Files {
                keyword: "ADD",
                sources: &add.sources,
                heredocs: &add.heredocs,
                dest: &add.dest,
                chown: add.chown.as_ref(),
                chmod: add.chmod.as_ref(),
                from: CopyFrom::Context,
                link: add.link,
                parents: false,
                excludes: &add.excludes,
                checksum: add.checksum.as_ref(),
                keep_git_dir: add.keep_git_dir,
                unpack: add.unpack,
            },
        )
    }

    fn files(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        files: &Files<'_>,
    ) -> Result<(), Error> {
        let mut history = files.keyword.to_owned();
        if files.parents {
            history.push_str(" --parents");
        }
        let chown = files
            .chown
            .map(|word| self.expand(state, word))
            .transpose()?
            .filter(|text| !text.is_empty());
        if let Some(chown) = &chown {
            history = format!("{history} --chown={chown}");
        }
        let chmod = self.chmod(state, files.chmod)?;
        if let Some((text, _)) = &chmod {
            history = format!("{history} --chmod={text}");
        }
        let mut sources = Vec::new();
        let checksum = files.checksum.map(|word| self.expand(state, word)).transpose()?;
        let checksum = checksum.filter(|text| !text.is_empty());
        if let (Some(word), Some(_)) = (files.checksum, &checksum)
            && files.sources.len() + files.heredocs.len() != 1
        {
            let message = "checksum can't be specified for multiple sources";
            return Err(self.source.error(word.span, message));
        }
        for word in files.sources {
            let text = self.expand(state, word)?;
            history = format!("{history} {}", redact(&text));
            sources.push(self.copy_source(files, word, text, checksum.as_deref())?);
        }
        let mut inline = Vec::new();
        for heredoc in files.heredocs {
            let mut body = heredoc.body();
            if heredoc.expand {
                let expanded = process_heredoc(&body, &|name| state.get(name));
                body = expanded
                    .map_err(|error| self.source.error(heredoc.body, error.message))?
                    .text;
            }
            history = format!("{history} <<{}", heredoc.name);
            inline.push(Inline {
                name: heredoc.name.clone(),
                bytes: body.into_bytes(),
            });
        }
        let dest = self.expand(state, files.dest)?;
        history = format!("{history} {dest} # buildkit");
        let action = CopyAction {
            add: files.keyword == "ADD",
            from: files.from,
            sources,
            files: inline,
            dest: destination(state.cwd(), &dest),
            chown,
            chmod,
            unpack: files.unpack.unwrap_or(true),
            unpack_fetched: files.unpack.unwrap_or(false),
            link: files.link,
            parents: files.parents,
            excludes: self.excludes(files.excludes)?,
        };
        let step = self.push(instruction.span, state.rootfs, Action::Copy(action))?;
        state.note_layer(history, step);
        Ok(())
    }

    fn chmod(&self, state: &StageState, word: Option<&Word>) -> Result<Option<(String, Chmod)>, Error> {
        let Some(word) = word else { return Ok(None) };
        let text = self.expand(state, word)?;
        if text.is_empty() {
            return Ok(None);
        }
        let chmod = Chmod::parse(&text).ok_or_else(|| {
            let message = format!(
                "invalid chmod parameter: {text:?}: it is neither an octal number from 0 to 07777 nor like u=rwX,go=rX"
            );
            self.source.error(word.span, message)
        })?;
        Ok(Some((text, chmod)))
    }

    /// `--exclude`; variables in it stay as they are, as in BuildKit.
    fn excludes(&self, words: &[Word]) -> Result<Option<Patterns>, Error> {
        if words.is_empty() {
            return Ok(None);
        }
        let patterns = Patterns::new(words.iter().map(|word| word.text.as_bytes()));
        patterns.map(Some).map_err(|error| {
            // Its line is the number of the pattern.
            let word = words.get(error.line.saturating_sub(1)).unwrap_or(&words[0]);
            self.source.error(
                word.span,
                format!("invalid exclude pattern {:?}: {}", word.text, error.kind),
            )
        })
    }

    fn copy_source(
        &mut self,
        files: &Files<'_>,
        word: &Word,
        text: String,
        checksum: Option<&str>,
    ) -> Result<CopySource, Error> {
        let add = files.keyword == "ADD";
        let remote = if add { Remote::of_add(&text) } else { None };
        let Some(remote) = remote else {
            if !add && Remote::is_http(&text) {
                return Err(self.source.error(word.span, "source can't be a URL for COPY"));
            }
            if let (Some(_), Some(word)) = (checksum, files.checksum) {
                let message = "checksum requires HTTP(S) or Git sources";
                return Err(self.source.error(word.span, message));
            }
            return Ok(CopySource::Path(text, word.span));
        };
        let at = files.checksum.map_or(word.span, |word| word.span);
        let mut remote = remote.map_err(|message| self.source.error(word.span, message))?;
        if let Some(checksum) = checksum {
            remote = remote
                .with_checksum(checksum)
                .map_err(|message| self.source.error(at, message))?;
        }
        if let (Remote::Git(git), Some(keep)) = (&mut remote, files.keep_git_dir) {
            git.keep_git_dir = keep;
        }
        let name = match &remote {
            Remote::Http(http) => Some(http.file_name()),
            Remote::Git(_) => None,
        };
        let step = self.fetch(word.span, remote)?;
        Ok(match name {
            Some(name) => CopySource::Http { step, name },
            None => CopySource::Git { step },
        })
    }
}
