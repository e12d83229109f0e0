//! Columns as Go's `text/tabwriter` aligns them with docker's settings: at least 10 wide, 3 blanks between.

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Lays out rows of cells; the last cell of a row is neither padded nor counted.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![MIN_WIDTH; columns];
    for row in rows {
        for (width, cell) in widths
            .iter_mut()
            .zip(row.iter().take(row.len().saturating_sub(1)))
        {
            *width = (*width).max(cell.chars().count() + PADDING);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if index + 1 < row.len() {
                let blanks = widths[index].saturating_sub(cell.chars().count());
                text.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_images() {
        let rows = [
            ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
            ["busybox", "latest", "044e51d4ba12", "1 second ago", "1.98MB"],
        ]
        .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            render(&rows),
            "REPOSITORY   TAG       IMAGE ID       CREATED        SIZE\n\
             busybox      latest    044e51d4ba12   1 second ago   1.98MB\n"
        );
    }

    #[test]
    fn counts_characters_and_keeps_empty_cells() {
        let rows = [["A", "B", "C"], ["\"sh -c 'a…\"", "", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            render(&rows),
            "A             B         C\n\"sh -c 'a…\"             x\n"
        );
        assert_eq!(render(&[]), "");
    }
}
