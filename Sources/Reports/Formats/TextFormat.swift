extension ReportFormat {
    /// For a terminal.
    public static let text = ReportFormat("text") { report, style in report.text(style) }
}
