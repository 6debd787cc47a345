/// A report for a ticket or a document.
public protocol MarkdownReport: Report {
    var markdown: MarkdownText { get }
}

extension ReportFormat {
    public static let markdown = ReportFormat("markdown", offeredBy: { $0 is any MarkdownReport.Type }) { report, _ in
        (report as? any MarkdownReport).map { TerminalText($0.markdown) }
    }
}
