//! COPY and ADD.

use super::evaluate::Evaluator;
use super::state::StageState;
use super::step::{Action, CopyAction, CopyFrom, Inline};
use super::values::{destination, is_remote, octal_mode};
use crate::build::Error;
use crate::dockerfile::{Add, Copy, Heredoc, Instruction, Word, process_heredoc};

/// What COPY and ADD have in common.
struct Files<'a> {
    keyword: &'static str,
    sources: &'a [Word],
    heredocs: &'a [Heredoc],
    dest: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    from: CopyFrom,
    unpack: bool,
}

impl Evaluator<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), Error> {
        for (given, name) in [
            (copy.link, "link"),
            (copy.parents, "parents"),
            (!copy.excludes.is_empty(), "exclude"),
        ] {
            self.refuse(instruction, given, "COPY", name)?;
        }
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
                unpack: false,
            },
        )
    }

    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), Error> {
        for (given, name) in [
            (add.link, "link"),
            (!add.excludes.is_empty(), "exclude"),
            (add.checksum.is_some(), "checksum"),
            (add.keep_git_dir.is_some(), "keep-git-dir"),
            (add.unpack == Some(true), "unpack"),
        ] {
            self.refuse(instruction, given, "ADD", name)?;
        }
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
                unpack: add.unpack.unwrap_or(true),
            },
        )
    }

    fn refuse(&self, instruction: &Instruction, given: bool, keyword: &str, flag: &str) -> Result<(), Error> {
        if !given {
            return Ok(());
        }
        let span = instruction.flag(flag).map_or(instruction.span, |flag| flag.span);
        Err(self.source.unsupported(span, &format!("{keyword} --{flag}")))
    }

    fn files(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        files: &Files<'_>,
    ) -> Result<(), Error> {
        let mut history = files.keyword.to_owned();
        let mut sources = Vec::new();
        let chown = files
            .chown
            .map(|word| self.expand(state, word))
            .transpose()?
            .filter(|text| !text.is_empty());
        let mut mode = None;
        if let Some(chown) = &chown {
            history = format!("{history} --chown={chown}");
        }
        if let Some(word) = files.chmod {
            let text = self.expand(state, word)?;
            mode = octal_mode(&text);
            if mode.is_none() {
                return Err(self.source.error(
                    word.span,
                    format!("invalid chmod parameter {text:?}: it must be an octal number from 0 to 7777, symbolic modes are not supported yet"),
                ));
            }
            history = format!("{history} --chmod={text}");
        }
        for word in files.sources {
            let text = self.expand(state, word)?;
            if files.keyword == "ADD" && is_remote(&text) {
                return Err(self
                    .source
                    .unsupported(word.span, "ADD of a URL or git repository"));
            }
            history = format!("{history} {text}");
            sources.push((text, word.span));
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
            from: files.from,
            sources,
            files: inline,
            dest: destination(state.cwd(), &dest),
            chown,
            mode,
            unpack: files.unpack,
        };
        let step = self.push(instruction.span, state.rootfs, Action::Copy(action))?;
        state.note_layer(history, step);
        Ok(())
    }
}
